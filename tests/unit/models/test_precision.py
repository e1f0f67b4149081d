"""What a type's name means on a device, and what is cast."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from palate.core import ModelError
from palate.core.process import computing_on
from palate.models import precision
from palate.models.adapters import LoRA
from palate.models.load import load_policy
from palate.models.precision import DTYPES, dtype_of
from palate.models.shared_layers import cast_parameters
from palate.testing import tiny_policy


def test_names_are_types() -> None:
    assert {name: dtype_of(name) for name in DTYPES} == DTYPES  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="dtype 'half' is unknown; use one of auto, float32, bfloat16, float16"):
        dtype_of("half")  # type: ignore[arg-type]


def test_auto_is_float32_on_a_cpu_and_that_is_noted() -> None:
    with computing_on("cpu") as computing:
        dtype_of("bfloat16")
        assert computing.dtype is None
        assert dtype_of("auto") == torch.float32
        assert computing.dtype == "float32"


def test_auto_is_bfloat16_where_the_device_computes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_has_bfloat16", lambda device: device.type == "cuda")
    with computing_on("cpu") as computing:
        assert dtype_of("auto", torch.device("cuda", 0)) == torch.bfloat16
        assert computing.dtype == "bfloat16"
        assert dtype_of("auto", torch.device("mps")) == torch.float32


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_nothing_has_bfloat16() -> None:
    assert not precision._has_bfloat16(torch.device("cpu"))
    assert not precision._has_bfloat16(torch.device("mps"))


def test_frequencies_of_positions_are_not_rounded() -> None:
    module = tiny_policy("qwen3").module
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    assert any("inv_freq" in name for name in before)
    assert cast_parameters(module, torch.bfloat16) is module
    assert {p.dtype for p in module.parameters()} == {torch.bfloat16}
    assert all(torch.equal(buffer, before[name]) for name, buffer in module.named_buffers())


def test_a_weight_with_two_names_stays_one() -> None:
    net = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    net[1].weight = net[0].weight
    cast_parameters(net, torch.float16)
    assert net[1].weight is net[0].weight


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_an_adapter_is_merged_before_its_base_is_rounded(dtype: str, tmp_path: Path) -> None:
    tiny_policy("qwen3").save(tmp_path / "base")
    policy = load_policy(tmp_path / "base").with_adapter(LoRA(rank=2), str(tmp_path / "base"), seed=0)
    with torch.no_grad():
        for name, p in policy.module.named_parameters():
            if "lora_B" in name:
                p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)) * 0.01)
    policy.save(tmp_path / "adapter")
    wide, narrow = load_policy(tmp_path / "adapter"), load_policy(tmp_path / "adapter", dtype=dtype)  # type: ignore[arg-type]
    for one, two in zip(wide.parameters(), narrow.parameters(), strict=True):
        assert torch.equal(one.to(DTYPES[dtype]), two)

"""Loading models that are shared out, with a rank of one; tests/ranks/test_loading.py has several."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from palate.core import ModelError
from palate.core.process import Shard, computing_on
from palate.models.causal import CausalPolicy
from palate.models.four_bit import FourBit
from palate.models.load import load_policy
from palate.models.scalar import scalar_from
from palate.models.shards import is_shared_out
from palate.models.shared_layers import on_host, sharing_out
from palate.testing import tiny_policy, word_tokenizer
from tests.support.quantised import needs_bitsandbytes
from tests.unit.models.test_shards import Together


@contextmanager
def sharing() -> Iterator[None]:
    """A context in which models are shared out over one rank when they are loaded."""
    with computing_on("cpu", Shard("all")), sharing_out(Together(1).of(0), learns=True):
        yield


def same(shared: CausalPolicy, whole: CausalPolicy) -> bool:
    """Whether two models have the same weights."""
    pairs = zip(shared.module.named_parameters(), whole.module.named_parameters(), strict=True)
    return all(one == other and torch.equal(on_host(p), q) for (one, p), (other, q) in pairs)


def test_a_model_of_two_types_keeps_every_bit(tmp_path: Path) -> None:
    tiny_policy("llama", word_tokenizer()).save(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = {name: x.bfloat16() if "norm" in name else x for name, x in load_file(file).items()}
    save_file(weights, file, {"format": "pt"})
    with sharing():
        policy = load_policy(tmp_path)
    assert all(p.dtype == torch.float32 for p in policy.parameters())
    assert same(policy, load_policy(tmp_path))


def test_models_are_whole_outside_the_context(tmp_path: Path) -> None:
    tiny_policy("llama", word_tokenizer()).save(tmp_path)
    with sharing():
        pass
    assert not any(is_shared_out(p) for p in load_policy(tmp_path).parameters())


def test_an_index_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    policy = tiny_policy("llama", word_tokenizer())
    policy.save(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    policy.module.save_pretrained(tmp_path, max_shard_size="20KB")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(index.read_text()[:-20])
    with pytest.raises(ModelError, match=rf"{index} cannot be read \(JSONDecodeError.*Copy the file again"):
        load_policy(tmp_path)


@needs_bitsandbytes
@pytest.mark.parametrize(
    "load",
    [lambda path: load_policy(path, four_bit=FourBit()), lambda path: scalar_from(path, ("score",), 1, four_bit=FourBit())],
)
def test_a_base_in_4_bits_is_packed_and_then_shared_out(tmp_path: Path, load: Callable[[Path], CausalPolicy]) -> None:
    tiny_policy("llama", word_tokenizer()).save(tmp_path)
    with sharing():
        model = load(tmp_path)
    whole = load(tmp_path)
    packed = [p for p in model.parameters() if not p.is_floating_point()]
    assert packed
    assert all(map(is_shared_out, packed))
    assert same(model, whole)
    assert not any(map(is_shared_out, whole.parameters()))

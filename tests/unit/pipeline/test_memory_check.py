"""Models that do not fit are named before they are loaded; what may not fit is told; all else goes on as before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from palate.cli import main
from palate.core.process import MEMORY_CHECK
from palate.models import devices
from palate.models.devices import DeviceMemory, memory_of_device
from palate.pipeline.estimates.memory_parts import CHECK, GB, MemoryPart, MemoryScript
from palate.runs.record import list_runs
from palate.testing import tiny_policy, word_tokenizer
from tests.support.huge_models import huge_model

PIPELINE = """\
name: p
device: cpu
stages:
  world: {stage: world}
  sft: {stage: sft, model: huge, data: rows.jsonl}
  tuned: {stage: direct, model: $sft, preferences: pairs.jsonl}
  small: {stage: sft, model: tiny, data: rows.jsonl}
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text(json.dumps({"prompt": "a b", "completion": "c"}) + "\n")
    Path("pairs.jsonl").write_text(json.dumps({"prompt": "a b", "chosen": "c", "rejected": "d"}) + "\n")
    Path("p.yaml").write_text(PIPELINE)
    huge_model(Path("huge"))
    tiny_policy("llama", word_tokenizer()).save("tiny")
    there(monkeypatch, total=60 * GB)


def there(monkeypatch: pytest.MonkeyPatch, *, total: float | None = None, free: float | None = None) -> None:
    """Lets the system's files say that the machine has so much memory."""
    if total is not None:
        Path("limit").write_text(f"{total:.0f}\n")
        monkeypatch.setattr(devices, "CONTAINER_LIMIT", Path("limit").absolute())
        monkeypatch.setattr(devices.os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1 << 30}.__getitem__)
    if free is not None:
        Path("meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {free / 1024:.0f} kB\n")
        monkeypatch.setattr(devices, "MEMINFO", Path("meminfo").absolute())


def palate(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(list(words))
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_a_pipeline_names_every_stage_that_cannot_fit_in_one_message_before_anything_runs(capsys: pytest.CaptureFixture[str]) -> None:
    code, told = palate(capsys, "run", "p.yaml")
    assert code == 2
    first, second, last = told.removeprefix("palate: ").splitlines()
    assert first.startswith(
        "sft: its weights, gradients and moments alone need 128.5 GB of cpu, which has 60.0 GB: "
        "policy 128.5 (weights 32.1, gradients 32.1, moments 64.2). No setting makes it fit: "
    )
    assert second.startswith("tuned: its weights, gradients and moments alone need 128.5 GB of cpu, which has 60.0 GB: policy 128.5 ")
    assert last == "`palate plan` shows each part. To load the models all the same, set PALATE_MEMORY_CHECK=off."
    assert list_runs(Path("runs")) == []


def test_a_single_stage_says_what_makes_it_fit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    there(monkeypatch, total=128 * GB)
    code, told = palate(capsys, "sft", "--model", "huge", "--data", "rows.jsonl", "--tokens_per_microbatch", "1024")
    assert code == 2
    assert "need 128.5 GB of cpu, which has 128.0 GB" in told
    assert "Change: " in told
    assert "adapters=lora (rank 16)" in told
    assert "torchrun" not in told, "ranks on CPUs share the memory of their machine"


def test_a_user_can_go_on_all_the_same(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MEMORY_CHECK, "off")
    code, told = palate(capsys, "sft", "--model", "huge", "--data", "rows.jsonl")
    assert code == 3
    assert "huge: weights cannot be read" in told
    monkeypatch.setenv(MEMORY_CHECK, "no")
    code, told = palate(capsys, "sft", "--model", "huge", "--data", "rows.jsonl")
    assert (code, told) == (2, "palate: the environment variable PALATE_MEMORY_CHECK is 'no': give on or off, or unset it\n")


def test_less_free_memory_than_needed_is_told_and_the_stage_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    there(monkeypatch, free=0.2 * GB)
    words = ("sft", "--model", "tiny", "--data", "rows.jsonl")
    code, told = palate(capsys, *words)
    assert code == 0
    assert told.startswith(
        "sft: about 0.47 GB are needed of cpu, where 0.20 GB are free now. It may run out of memory. No setting makes it "
    )
    code, told = palate(capsys, *words)
    assert code == 0
    assert "GB" not in told, "a run that is done loads nothing"
    there(monkeypatch, total=0.0001 * GB)
    assert palate(capsys, *words)[0] == 0
    there(monkeypatch, total=60 * GB, free=1 * GB)
    assert "GB" not in palate(capsys, *words, "--seed", "1")[1]


def test_a_model_that_cannot_be_read_is_left_to_its_stage(capsys: pytest.CaptureFixture[str]) -> None:
    Path("huge/config.json").write_text('{"model_type": "llama", "num_attention_heads": "many"}')
    code, told = palate(capsys, "sft", "--model", "huge", "--data", "rows.jsonl")
    assert code == 3
    assert told.startswith("palate: huge: ")


def test_ranks_on_one_machine_share_the_memory_of_its_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    there(monkeypatch, total=60 * GB, free=20 * GB)
    assert memory_of_device(torch.device("cpu")) == DeviceMemory(60 * GB, pytest.approx(20 * GB))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert memory_of_device(torch.device("cpu")) == DeviceMemory(15 * GB, pytest.approx(5 * GB))
    monkeypatch.setattr(devices, "MEMINFO", Path("nothing"))
    assert memory_of_device(torch.device("cpu")).free is None
    monkeypatch.setattr(devices, "CONTAINER_LIMIT", Path("nothing"))
    assert memory_of_device(torch.device("cpu")).total == 2**40


def test_what_is_certain_is_not_what_a_batch_holds_or_a_check_reads() -> None:
    script = MemoryScript()
    script.hold("policy", "weights", 4.0)
    script.moment("load", [MemoryPart("policy", "activations", 90.0)])
    script.hold("policy", "moments", 8.0)
    script.moment("write", [MemoryPart(CHECK, "weights", 50.0)])
    assert sum(part.size for part in script.result().certain) == 12.0

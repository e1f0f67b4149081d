"""`palate plan`: tables, exit codes, and messages for what is wrong."""

from pathlib import Path

import pytest

from palate.cli import main
from tests.support.repository import ROOT

PIPELINE = """\
name: p
inputs: {model: null}
stages:
  sft: {stage: sft, model: $model, data: d, dtype: bfloat16, tokens_per_microbatch: 2048, checkpoint_activations: true}
  out: {stage: world}
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.yaml").write_text(PIPELINE)


def test_a_stage_that_fits_is_shown_by_role(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "p.yaml", "model=0.5B", "--memory", "24GB"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("One GPU with 24.0 GB\n")
    assert "sft (sft, Qwen2.5-0.5B, 0.49 billion parameters): " in out
    assert ", fits (" in out
    for word in ("float32 weights", "gradients", "moments", "activations", "head", "policy", "process", "out (world): no model"):
        assert word in out
    assert not list(Path().glob("runs*"))


def test_a_stage_that_does_not_fit_says_what_to_change(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "p.yaml", "model=7B", "--gpu", "rtx4090"]) == 1
    out = capsys.readouterr().out
    assert "does not fit" in out
    assert "change: " in out
    assert "adapters.base_dtype=nf4; it then needs" in out


def test_the_demo_can_be_planned_before_its_tokenizer_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(ROOT / "configs" / "kitchen.yaml"), "device=cpu"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("One CPU with ")
    assert "base: its tokenizer is not there yet; a vocabulary of 4,096 tokens is assumed." in out
    for line in ("world (world): no model", "ppo (online, base, ", "eval-ppo (evaluate, base, "):
        assert line in out


def test_ranks_a_device_and_lengths_can_be_planned_that_are_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "p.yaml", "model=8B", "--device", "cuda:7", "--memory", "80GB", "--ranks", "8", "--tokens", "512"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("8 GPUs with 80.0 GB each; figures are those of one\n")
    assert "Sequences of up to 512 tokens" in out
    assert main(["plan", "p.yaml", "model=0.5B", "--device", "cpu", "--memory", "64GB"]) == 0
    assert capsys.readouterr().out.startswith("One CPU with 64.0 GB\n")


def test_a_model_on_some_gpus_has_memory_by_role_and_the_parts_of_a_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--model", "1.5B", "--gpus", "8", "--gpu", "h100"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("GRPO of Qwen2.5-1.5B (1.54 billion parameters) on 8 x h100\n")
    for word in ("all weights:", "adapters: lora (rank 16):", "reference", "sampler", "sample", "score", "learn", "sync"):
        assert word in out
    for layout in ("colocated, synchronous", "split, synchronous", "split, one step ahead", "split, streaming"):
        assert layout in out
    assert "989 TFLOP/s in bfloat16, 3.35 TB/s" in out


def test_one_gpu_cannot_be_split(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--model", "0.5B", "--gpus", "1"]) == 0
    assert "split" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "name a pipeline file, or a model with --model and --gpus"),
        (["p.yaml", "--gpus", "8"], "name a pipeline file, or a model with --model and --gpus"),
        (["p.yaml", "model=7B", "--memory", "much"], "'much' is not an amount of memory"),
        (["p.yaml", "model=7B", "--memory", "24GB", "--gpu", "h100"], "--gpu and --memory both say"),
        (["p.yaml", "model=7B", "--gpu", "h9000"], "there is no GPU 'h9000'"),
        (["p.yaml", "model=7B", "--ranks", "0"], "--ranks is 0; give 1 or more"),
        (["p.yaml", "model=7B", "--tokens", "-3"], "--tokens is -3; give 1 or more"),
        (["p.yaml", "model=9B"], "there is no model '9B'"),
        (["p.yaml"], "the input model has no value"),
        (["nowhere.yaml"], "nowhere.yaml cannot be read"),
        (["p.yaml", "--model", "7B"], "--model plans without a file"),
        (["--model", "9B"], "there is no model '9B'"),
        (["--model", "7B", "--gpus", "0"], "--gpus is 0; give 1 or more"),
        (["p.yaml", "model=7B", "--memoery", "1GB"], "palate plan has no '--memoery'. Did you mean '--memory'?"),
    ],
)
def test_what_is_wrong_is_one_message(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *words]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.startswith("palate: ")
    assert "Traceback" not in error

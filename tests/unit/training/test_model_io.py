"""Adapters, precision and best weights in the stages: what they leave is read by the next one, and resumed runs end as straight ones."""

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.models.qwen3.modeling_qwen3 import Qwen3MLP

from palate.cli import main
from palate.core.process import computing_on
from palate.models.adapters import LoRA
from palate.models.load import load_policy
from palate.runs.record import RunPlan
from palate.runs.run import Run, open_run_at
from palate.testing import tiny_policy, word_tokenizer
from palate.testing.tokenizers import WORDS
from palate.training import checkpoints
from palate.training.learner import Learner
from palate.training.model_io import trained
from palate.training.optimizer import AdamW
from tests.support.quantised import needs_bitsandbytes

STEPS = 6
LORA = ("--adapters", "lora", "--adapters.rank", "4", "--optimizer.lr", "0.01")


def text(seed: int, words: int) -> str:
    return " ".join(WORDS[(seed * 7 + k * k + 3 * k) % len(WORDS)] for k in range(words))


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model, demonstrations, preferences and prompts."""
    folder = tmp_path_factory.mktemp("data")
    tokenizer = word_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} : {% endfor %}"
    tiny_policy("qwen3", word_tokenizer()).save(folder / "base")
    write(folder / "demos.jsonl", [{"prompt": text(k, 5), "completion": " " + text(k + 40, 4 + k % 5)} for k in range(24)])
    write(folder / "more.jsonl", [{"prompt": text(k, 5), "completion": " " + text(k + 41, 4 + k % 5)} for k in range(100, 108)])
    sides = [{"prompt": text(k, 5), "chosen": " " + text(k, 3 + k % 4), "rejected": " " + text(k + 9, 3 + k % 3)} for k in range(24)]
    write(folder / "pairs.jsonl", sides)
    write(folder / "more_pairs.jsonl", [{**side, "prompt": "rice " + side["prompt"]} for side in sides[:8]])
    return folder


def words(data: Path, stage: str, model: Path | str | None = None) -> list[str]:
    """The command of a stage of six steps."""
    start = ["--model", str(model or data / "base")]
    match stage:
        case "sft":
            return ["sft", *start, "--data", str(data / "demos.jsonl"), "--demonstrations_per_step", "8", "--epochs", "2"]
        case "direct":
            return ["direct", *start, "--preferences", str(data / "pairs.jsonl"), "--prompts_per_step", "8", "--epochs", "2"]
        case _:
            held = ["--held_out", str(data / "more_pairs.jsonl")]
            return ["reward", *start, "--preferences", str(data / "pairs.jsonl"), *held, "--prompts_per_step", "8", "--epochs", "2"]


def best(data: Path, stage: str) -> list[str]:
    """The further words that look for the best weights after every second step."""
    held = {"sft": ["--held_out", str(data / "more.jsonl")], "direct": ["--held_out", str(data / "more_pairs.jsonl")]}.get(stage, [])
    return [*held, "--keep", "best", "--keep.every", "2"]


def do(*words: str) -> None:
    assert main(list(words)) == 0


def rows(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


FOUR_BIT = (*LORA, "--adapters.base_dtype", "nf4")
EXTRAS = {
    "bfloat16": ("--dtype", "bfloat16"),
    "float16": ("--dtype", "float16"),
    "adapters in bfloat16, activations computed anew": (*LORA, "--dtype", "bfloat16", "--checkpoint_activations", "true"),
    "adapters on 4 bits": (*FOUR_BIT, "--dtype", "bfloat16", "--checkpoint_activations", "true", "--optimizer.state", "8bit"),
    "8-bit state": ("--optimizer.state", "8bit"),
}


@pytest.mark.parametrize("extra", [pytest.param(name, marks=needs_bitsandbytes if "bit" in name else ()) for name in EXTRAS])
@pytest.mark.parametrize("stage", ["sft", "direct", "reward"])
def test_a_run_that_was_cut_off_ends_as_if_it_had_not_been(
    stage: str, extra: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [*words(data, stage), *best(data, stage), *EXTRAS[extra]]
    do(*command, "--out", str(tmp_path / "straight"))
    monkeypatch.setattr(checkpoints, "CHECKPOINT_SECONDS", 0)
    log = Run.log

    def deadly(run: Run, step: int, metrics: Mapping[str, float]) -> None:
        log(run, step, metrics)
        if step == 3:  # its measurement is done and its best weights are saved, its checkpoint is not
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "log", deadly)
        assert main([*command, "--out", str(tmp_path / "killed")]) == 130
    do(*command, "--out", str(tmp_path / "killed"))
    assert rows(tmp_path / "killed") == rows(tmp_path / "straight")
    assert weights(tmp_path / "killed") == weights(tmp_path / "straight")
    assert [f"{stage}/held_out_loss/mean" in row for row in rows(tmp_path / "straight")] == [False, True] * 3
    last = json.loads((tmp_path / "straight" / "summary.json").read_text())["last"]
    found = {row["step"] + 1: row[f"{stage}/held_out_loss/mean"] for row in rows(tmp_path / "straight")[1::2]}
    assert (last["best_held_out_loss"], last["best_step"]) == min((loss, step) for step, loss in found.items())


def test_the_best_weights_are_kept_and_training_stops_when_nothing_better_comes(data: Path, tmp_path: Path) -> None:
    command = [*words(data, "sft"), "--held_out", str(data / "more.jsonl"), "--keep", "best", "--keep.every", "1"]
    command += ["--optimizer.lr", "0.05", "--optimizer.warmup", "0", "--epochs", "6"]
    do(*command, "--keep.patience", "3", "--out", str(tmp_path / "run"))
    found = [row["sft/held_out_loss/mean"] for row in rows(tmp_path / "run")]
    at = found.index(min(found))
    assert len(found) == at + 1 + 3 < 18
    last = json.loads((tmp_path / "run" / "summary.json").read_text())["last"]
    assert last["best_step"] == at + 1
    do(*words(data, "sft", tmp_path / "run"), "--held_out", str(data / "more.jsonl"), "--keep", "best", "--keep.every", "1",
       "--optimizer.lr", "1e-9", "--out", str(tmp_path / "same"))  # fmt: skip
    assert rows(tmp_path / "same")[0]["sft/held_out_loss/mean"] == pytest.approx(min(found), rel=1e-5)


@pytest.mark.parametrize("stage", ["sft", "direct"])
def test_best_weights_need_held_out_data(stage: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words(data, stage), "--keep", "best"]) == 2
    assert "keep: best needs data that are not trained on" in capsys.readouterr().err
    assert main([*words(data, stage), "--held_out", str(data / "more.jsonl")]) == 2
    assert "set keep to best, or leave out held_out" in capsys.readouterr().err


@pytest.mark.parametrize("stage", ["sft", "direct", "reward"])
def test_computing_activations_anew_changes_nothing(stage: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward, calls = Qwen3MLP.forward, {"held": 0, "anew": 0}
    for name, extra in (("held", []), ("anew", ["--checkpoint_activations", "true"])):

        def counted(layer: Qwen3MLP, x: torch.Tensor, name: str = name) -> torch.Tensor:
            calls[name] += torch.is_grad_enabled()
            return forward(layer, x)

        monkeypatch.setattr(Qwen3MLP, "forward", counted)
        do(*words(data, stage), *extra, "--out", str(tmp_path / name))
    assert calls["anew"] == 2 * calls["held"] > 0
    for one, two in zip(rows(tmp_path / "held"), rows(tmp_path / "anew"), strict=True):
        assert two == pytest.approx(one, rel=1e-5, abs=1e-7)


# Largest difference of the mean loss (nats) over six steps. bfloat16 keeps 8 bits; these weights are ten times the usual scale.
BOUNDS = {"sft": 0.02, "direct": 0.02, "reward": 0.05}
FINER = {"bfloat16": 1, "float16": 4}
"""By what the bound is divided: float16 keeps 11 bits."""


SLOW = ("--optimizer.lr", "1e-5")


@pytest.fixture(scope="module")
def in_float32(data: Path) -> Callable[[str], list[dict[str, float]]]:
    """The metrics of a stage's slow run in float32, which both narrow types are compared with."""

    @cache
    def run(stage: str) -> list[dict[str, float]]:
        do(*words(data, stage), *SLOW, "--dtype", "float32", "--out", str(data / f"{stage}-float32"))
        return rows(data / f"{stage}-float32")

    return run


@pytest.mark.parametrize("dtype", FINER)
@pytest.mark.parametrize("stage", BOUNDS)
def test_bfloat16_stays_near_float32_and_moves_weights_by_less_than_it_can_hold(
    stage: str, dtype: str, data: Path, in_float32: Callable[[str], list[dict[str, float]]], tmp_path: Path
) -> None:
    do(*words(data, stage), *SLOW, "--dtype", dtype, "--out", str(tmp_path / dtype))
    wide, narrow = in_float32(stage), rows(tmp_path / dtype)
    gaps = [abs(a[f"{stage}/loss/mean"] - b[f"{stage}/loss/mean"]) for a, b in zip(wide, narrow, strict=True)]
    assert 0 < max(gaps) < BOUNDS[stage] / FINER[dtype]
    base = load_policy(data / "base").state_dict()
    moved = AutoModelForCausalLM.from_pretrained(tmp_path / dtype / "model").state_dict() if stage != "reward" else {}
    for name, value in moved.items():
        assert value.dtype == torch.float32
        gap = (value - base[name]).abs().max()
        assert 0 < gap < 1e-4, name  # steps of 1e-5 a weight of size 0.3 would lose in bfloat16


@pytest.mark.parametrize(
    ("merge", "adapters"),
    [("true", LORA), ("false", LORA), *(pytest.param(merge, FOUR_BIT, marks=needs_bitsandbytes) for merge in ("true", "false"))],
)
def test_every_later_stage_takes_a_run_with_adapters(merge: str, adapters: tuple[str, ...], data: Path, tmp_path: Path) -> None:
    lora = (*adapters, "--adapters.merge", merge)
    place = {name: tmp_path / name for name in ("sft", "direct", "reward", "rloo", "ppo", "samples", "scores")}
    do(*words(data, "sft"), *lora, "--out", str(place["sft"]))
    assert (place["sft"] / "model").is_dir() == (merge == "true")
    assert sum(path.stat().st_size for path in (place["sft"] / "adapter").glob("*.safetensors")) > 0
    do(*words(data, "direct", place["sft"]), *lora, "--out", str(place["direct"]))
    assert rows(place["direct"])[0]["direct/loss/mean"] == pytest.approx(0.6931472, abs=1e-4)
    do(*words(data, "reward", place["sft"]), *lora, "--out", str(place["reward"]))
    kept = place["reward"] / ("model" if merge == "true" else "adapter")
    assert (kept / "report_card.json").is_file()
    assert json.loads((place["reward"] / "adapter" / "reward.json").read_text())["gain"] != [1.0]  # normalised after training
    asked = ["--prompts", str(data / "pairs.jsonl"), "--sampling.max_tokens", "6"]
    few = [
        "--iterations",
        "2",
        "--prompts_per_iteration",
        "4",
        "--samples_per_prompt",
        "2",
        "--minibatches",
        "2",
        "--reward_requirements.min_accuracy",
        "0",
    ]
    start = ["--model", str(place["direct"]), "--reward", str(place["reward"])]
    do("online", *start, *asked, *few, *lora, "--out", str(place["ppo"]))
    do("online", *start, *asked, *few, *lora, "--method.advantage", "leave_one_out", "--out", str(place["rloo"]))
    for run in ("ppo", "rloo"):
        first = rows(place[run])[0]
        assert first["online/kl/mean"] == pytest.approx(0, abs=1e-4)  # the reference is the policy with its adapter off
        assert first["online/first_log_ratio/max"] < 1e-4
        assert abs(rows(place[run])[1]["online/kl/mean"]) > 1e-4
    do("sample", "--model", str(place["ppo"]), *asked, "--samples_per_prompt", "1", "--out", str(place["samples"]))
    do("rerank", "--model", str(place["rloo"]), "--reward", str(place["reward"]), *asked, "--n", "2", "--out", str(place["scores"]))
    assert AutoModelForCausalLM.from_pretrained(place["ppo"] / "model" if merge == "true" else data / "base") is not None


@pytest.mark.parametrize("adapters", [LORA, pytest.param((*FOUR_BIT, "--optimizer.state", "8bit"), marks=needs_bitsandbytes)])
def test_online_runs_with_adapters_resume_exactly(
    adapters: tuple[str, ...], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(*words(data, "reward"), "--out", str(tmp_path / "reward"))
    command = ["online", "--model", str(data / "base"), "--reward", str(tmp_path / "reward"), "--prompts", str(data / "pairs.jsonl")]
    command += adapters
    command += ["--sampling.max_tokens", "6", "--iterations", "3", "--prompts_per_iteration", "4", "--samples_per_prompt", "2"]
    command += ["--minibatches", "2", "--reward_requirements.min_accuracy", "0"]
    do(*command, "--out", str(tmp_path / "straight"))
    monkeypatch.setattr(checkpoints, "CHECKPOINT_SECONDS", 0)
    log = Run.log

    def deadly(run: Run, step: int, metrics: Mapping[str, float]) -> None:
        log(run, step, metrics)
        if step == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "log", deadly)
        assert main([*command, "--out", str(tmp_path / "killed")]) == 130
    do(*command, "--out", str(tmp_path / "killed"))
    assert rows(tmp_path / "killed") == rows(tmp_path / "straight")
    assert weights(tmp_path / "killed") == weights(tmp_path / "straight")


def test_a_loss_that_is_no_number_names_its_rows_and_keeps_the_weights_before(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*words(data, "sft"), "--out", str(tmp_path / "run")]
    from palate.training.imitation import Imitation

    formed, calls = Imitation.loss, []

    def broken(task: Imitation, batch: Any) -> Any:
        calls.append(batch)
        sums = formed(task, batch)
        return sums if len(calls) != 3 else type(sums)(sums.loss * float("nan"), sums.count, sums.metrics)

    with monkeypatch.context() as patch:
        patch.setattr(Imitation, "loss", broken)
        assert main(command) == 5
    told = capsys.readouterr().err
    named = {f"demos.jsonl:{k + 1}" for k in range(24) if f"demos.jsonl:{k + 1}," in told or f"demos.jsonl:{k + 1}." in told}
    assert "step 2: the loss is nan" in told
    assert len(named) == 8
    assert json.loads((tmp_path / "run" / "state" / "learner" / "numbers.json").read_text())["steps_done"] == 2
    do(*command)  # what broke it is gone: the same command goes on from there
    do(*command[:-1], str(tmp_path / "straight"))
    assert weights(tmp_path / "run") == weights(tmp_path / "straight")


def test_a_policy_is_merged_on_the_cpu_because_its_device_may_be_too_small(data: Path, tmp_path: Path) -> None:
    policy = load_policy(data / "base").with_adapter(LoRA(rank=2), str(data / "base"), 0)
    learner = Learner({"policy": policy.module}, AdamW(), 1)
    run = open_run_at(tmp_path / "run", RunPlan("sft", "sft", seed=0))
    with computing_on("meta"):  # where nothing can be loaded
        merged = trained(run, policy, LoRA(rank=2), learner)
    assert merged.device.type == "cpu"
    assert (tmp_path / "run" / "adapter").is_dir()

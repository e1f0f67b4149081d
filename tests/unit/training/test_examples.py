"""Completions of the same prompts while sft, direct and pretrain train: of which prompts, when, and that nothing else changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from palate.core import Interrupted, Message, Prompt
from palate.data.data_sources import DataSource
from palate.data.jsonl import write_rows
from palate.models.adapters import LoRA
from palate.models.load import Architecture
from palate.objectives.direct import KTO
from palate.pipeline.table import Stage
from palate.runs.record import RunPlan
from palate.runs.run import Run, open_run
from palate.stages.direct import Direct
from palate.stages.pretrain import Pretrain
from palate.stages.sft import SFT
from palate.testing import tiny_policy, word_tokenizer
from palate.training import checkpoints, examples
from palate.training.examples import FirstPrompts, examples_of
from palate.training.keep import Best
from palate.training.optimizer import AdamW
from tests.support.cook_pairs import PAIRS
from tests.support.stages import ran, rows_of

FAST = AdamW(lr=3e-2)
TURNS = [
    {"role": "user", "content": "please make rice"},
    {"role": "assistant", "content": "beans", "weight": 0},
    {"role": "user", "content": "no"},
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny policy, six demonstrations and pairs, two of each that are held out, and texts."""
    folder = tmp_path_factory.mktemp("home")
    tiny_policy().save(folder / "policy")
    word_tokenizer().save_pretrained(folder / "tokenizer")
    pairs = [dict(zip(("prompt", "chosen", "rejected"), pair, strict=True)) for pair in PAIRS]
    shown = [{"prompt": pair["prompt"], "completion": pair["chosen"]} for pair in pairs]
    for name, rows in (("pairs", pairs), ("shown", shown)):
        write_rows(folder / f"{name}.jsonl", rows)
        write_rows(folder / f"unseen_{name}.jsonl", [{**row, "prompt": f"{row['prompt']}no "} for row in rows[:2]])
    unpaired = [{"prompt": pair["prompt"], "completion": pair["chosen"], "label": k % 2 == 0} for k, pair in enumerate(pairs)]
    write_rows(folder / "unpaired.jsonl", unpaired)
    write_rows(folder / "texts.jsonl", [{"text": text} for text in ("the cook has rice and beans", "two guests make salt today", "rice")])
    return folder


def stage_of(kind: str, home: Path) -> Stage:
    """A stage of eight steps, or of twelve."""
    model = str(home / "policy")
    sft = SFT(model, str(home / "shown.jsonl"), demonstrations_per_step=3, epochs=4, optimizer=FAST)
    direct = Direct(model, str(home / "pairs.jsonl"), prompts_per_step=3, epochs=4, optimizer=FAST)
    stages: Mapping[str, Stage] = {
        "sft": replace(sft, epochs=6, held_out=str(home / "unseen_shown.jsonl"), keep=Best()),
        "lora": replace(sft, adapters=LoRA(rank=2), checkpoint_activations=True),
        "direct": replace(direct, held_out=str(home / "unseen_pairs.jsonl"), keep=Best()),
        "unpaired": replace(direct, preferences=str(home / "unpaired.jsonl"), objective=KTO()),
        "pretrain": Pretrain(
            str(home / "texts.jsonl"), str(home / "tokenizer"), architecture=SMALL, epochs=8, documents_per_step=3, optimizer=FAST
        ),
    }
    return stages[kind]


SMALL = Architecture(hidden_size=16, layers=1, heads=2, kv_heads=1, intermediate_size=32, max_positions=64)
UNSEEN = [f"{prompt}no " for prompt, _, _ in PAIRS[:2]]
FIRST = [prompt for prompt, _, _ in PAIRS[:4]]
EXPECTED: Mapping[str, tuple[list[str], list[int]]] = {
    "sft": (UNSEEN, [0, 6, 12]),
    "lora": (FIRST, [0, 4, 8]),
    "direct": (UNSEEN, [0, 4, 8]),
    "unpaired": (FIRST, [0, 4, 8]),
    "pretrain": (["the cook has", "two guests", "ri"], [0, 4, 8]),
}


def name_of(kind: str) -> str:
    return {"lora": "sft", "unpaired": "direct"}.get(kind, kind)


def weights(directory: Path) -> bytes:
    return (directory / "model/model.safetensors").read_bytes()


@pytest.mark.parametrize("kind", EXPECTED)
def test_a_stage_completes_its_prompts_as_it_learns_and_learns_the_same_with_them(
    kind: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts, moments = EXPECTED[kind]
    monkeypatch.setattr(examples, "SHORT", 0)  # so that there is a moment in the middle
    run = ran(stage_of(kind, home), tmp_path / "run", name_of(kind))
    rows = rows_of(run, "examples.jsonl")
    assert [(row["step"], row["prompt"]) for row in rows] == [(step, prompt) for step in moments for prompt in prompts]
    first, last = ([row["completion"] for row in rows if row["step"] == step] for step in (0, moments[-1]))
    assert first != last
    monkeypatch.setattr(examples, "PROMPTS", 0)
    without = ran(stage_of(kind, home), tmp_path / "without", name_of(kind))
    assert not (without / "examples.jsonl").exists()
    assert (run / "metrics.jsonl").read_bytes() == (without / "metrics.jsonl").read_bytes()
    assert weights(run) == weights(without)


@pytest.mark.parametrize("kind", ["sft", "direct"])
def test_a_run_that_was_killed_has_the_rows_of_a_straight_one(
    kind: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examples, "SHORT", 0)
    stage, straight = stage_of(kind, home), ran(stage_of(kind, home), tmp_path / "straight", kind)
    log = Run.log

    def deadly(run: Run, step: int, metrics: Mapping[str, float]) -> None:
        log(run, step, metrics)
        checkpoints.CHECKPOINT_SECONDS = 0 if step < 2 else 1000  # so that completions after the checkpoint are made again
        if step == 6:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "CHECKPOINT_SECONDS", 0)
        patch.setattr(Run, "log", deadly)
        with pytest.raises(Interrupted):
            ran(stage, tmp_path / "killed", kind)
    resumed = ran(stage, tmp_path / "killed", kind)
    assert (resumed / "examples.jsonl").read_bytes() == (straight / "examples.jsonl").read_bytes()


WHOLE = "user: please make rice\n\nassistant: beans\n\nuser: no"


def prompts_shown(home: Path, folder: Path, **settings: Any) -> list[str]:
    stage = replace(SFT(str(home / "policy"), "", demonstrations_per_step=4, epochs=0.1), **settings)
    return [row["prompt"] for row in rows_of(ran(stage, folder, "sft"), "examples.jsonl") if row["step"] == 0]


def test_each_source_has_its_turn_and_a_conversation_is_shown_whole(home: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "talk.jsonl", [{"messages": [*TURNS, {"role": "assistant", "content": "salt"}]}])
    write_rows(tmp_path / "again.jsonl", [{"prompt": "we can ", "completion": text} for text in ("rice", "salt")])
    sources = tuple(DataSource(str(path)) for path in (home / "shown.jsonl", tmp_path / "again.jsonl"))
    assert prompts_shown(home, tmp_path / "sources", data=sources) == [FIRST[0], "we can ", *FIRST[1:3]]
    assert prompts_shown(home, tmp_path / "turns", data=str(tmp_path / "talk.jsonl")) == [WHOLE]


def text_prompt(text: str, source: str = "") -> Prompt:
    return Prompt(text, (Message("text", text),), source_name=source)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return open_run(tmp_path, RunPlan("sft", "sft", seed=1))


def test_the_first_distinct_prompts_of_each_source_come_in_turn() -> None:
    given = [*(text_prompt(f"a{k // 2}", "a") for k in range(20)), text_prompt("b0", "b"), text_prompt("b0", "b")]
    assert [prompt.id for prompt in FirstPrompts(given)] == ["a0", "b0", "a1", "a2", "a3"]


@pytest.mark.parametrize(("steps", "moments"), [(1, 1), (19, 1), (30, 2), (350, 3), (20_000, 8)])
def test_a_long_training_has_eight_moments_and_a_short_one_two(steps: int, moments: int, run: Run) -> None:
    shown = examples_of(run, tiny_policy(), [text_prompt("rice")], steps)
    for step in range(steps):
        shown.before(step)
    assert len(rows_of(run.directory, "examples.jsonl")) == moments


def test_prompts_without_room_are_left_out_and_what_cannot_be_drawn_is_said_once(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    policy = tiny_policy()
    assert policy.max_tokens is not None
    long = text_prompt("rice " * policy.max_tokens)
    examples_of(run, policy, [long, text_prompt("rice")], 2).write(0)
    assert [row["id"] for row in rows_of(run.directory, "examples.jsonl")] == ["rice"]
    examples_of(run, policy, [long], 2).write(0)
    assert "no samples for `palate watch`: no prompt of the data can be completed" in capsys.readouterr().err
    layer = policy.module.get_output_embeddings()
    layer.weight = torch.nn.Parameter(layer.weight[:, 1:])  # it no longer fits the hidden states
    broken = examples_of(run, policy, [text_prompt("rice")], 2)
    broken.write(1)
    broken.write(2)
    assert capsys.readouterr().err.count("no samples for `palate watch`: RuntimeError") == 1
    assert [row["step"] for row in rows_of(run.directory, "examples.jsonl")] == [0]


def test_of_weights_that_are_no_numbers_the_next_step_speaks_and_not_the_samples(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    policy = tiny_policy()
    with torch.no_grad():
        policy.head[0].fill_(torch.nan)
    examples_of(run, policy, [text_prompt("rice")], 2).write(1)
    assert "no samples" not in capsys.readouterr().err
    assert not (run.directory / "examples.jsonl").exists()


def test_a_run_that_goes_back_shows_no_later_weights(run: Run) -> None:
    shown = examples_of(run, tiny_policy(), [text_prompt("rice")], 3)
    for step in range(4):
        shown.write(step)
    run.rewind(2)
    assert [row["step"] for row in rows_of(run.directory, "examples.jsonl")] == [0, 1, 2]


def test_a_module_that_recomputes_activations_still_does_so_afterwards(run: Run) -> None:
    policy = tiny_policy()
    policy.module.train()
    examples_of(run, policy, [text_prompt("rice")], 3).write(0)
    assert all(module.training for module in policy.module.modules())

"""What stage `direct` hands on: its reference, its guard, its seeds, the data held out, and what it records."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from palate.core import TrainingError
from palate.data.jsonl import write_rows
from palate.models.adapters import LoRA
from palate.models.causal import CausalPolicy, TokenOutputs
from palate.objectives.direct import DPO, KTO
from palate.stages import direct
from palate.stages.direct import Direct
from palate.testing import tiny_policy
from palate.text.pack import PackedBatch
from palate.training.keep import Best
from palate.training.learner import Learner
from palate.training.optimizer import AdamW
from palate.training.reference import ReferenceUpdate
from tests.support.stages import column_of, dropped_of, ran, summary_of

PAIRS = [
    ("the cook has ", "rice and beans but no salt", "no salt"),
    ("so what ", "can we make for two guests today", "please"),
    ("the guests ", "make rice", "make beans today please"),
    ("please ", "make salt for the cook", "what can we make"),
    ("today we ", "can", "has so"),
    ("two guests ", "make the beans and rice today", "salt and rice"),
]


def rows(*pairs: tuple[str, str, str]) -> list[dict[str, str]]:
    return [dict(zip(("prompt", "chosen", "rejected"), pair, strict=True)) for pair in pairs]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    tiny_policy(seed=0).save(folder / "policy")
    tiny_policy(seed=1).save(folder / "other")
    write_rows(folder / "pairs.jsonl", rows(*PAIRS))
    return folder


Train = Callable[..., Path]


@pytest.fixture
def train(home: Path, tmp_path: Path) -> Train:
    """Runs the stage, a whole epoch in a step, and gives its directory."""
    start = Direct(str(home / "policy"), str(home / "pairs.jsonl"), prompts_per_step=6, epochs=3, optimizer=AdamW(lr=1e-2))

    def run(name: str = "run", seed: int = 1, **settings: object) -> Path:
        return ran(replace(start, **settings), tmp_path / name, "direct", seed)  # type: ignore[arg-type]

    return run


def test_a_reference_that_follows_is_moved_before_every_step(train: Train) -> None:
    """Replaced by the policy before each step it is the policy: no log-ratio ever differs from 0."""
    assert column_of(train(reference_update=ReferenceUpdate(every=1, share=1.0)), "direct/loss/mean") == pytest.approx(
        [math.log(2)] * 3, abs=1e-5
    )
    assert column_of(train("fixed"), "direct/loss/mean")[-1] < 0.6


@pytest.mark.parametrize("objective", [DPO(), KTO()])
def test_a_reference_that_was_measured_is_not_in_memory_while_the_policy_learns(
    objective: DPO | KTO, train: Train, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[weakref.ref[torch.nn.Module]] = []
    alive: list[bool] = []
    load, step = direct.load_reference, Learner.step

    def loading(*words: Any, **settings: Any) -> CausalPolicy:
        reference = load(*words, **settings)
        loaded.append(weakref.ref(reference.module))
        return reference

    def stepping(learner: Learner, *words: Any) -> dict[str, float]:
        alive.append(loaded[0]() is not None)
        return step(learner, *words)

    monkeypatch.setattr(direct, "load_reference", loading)
    monkeypatch.setattr(Learner, "step", stepping)
    train(reference=str(home / "other"), objective=objective)
    assert alive == [False] * 3


@pytest.fixture
def noisy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log-probabilities differ where a gradient is wanted, as they do with dropout."""
    plain = CausalPolicy.logps

    def logps(self: CausalPolicy, batch: PackedBatch, *, temperature: float = 1.0) -> TokenOutputs:
        found = plain(self, batch, temperature=temperature)
        return replace(found, logps=found.logps + 0.05 * torch.is_grad_enabled())

    monkeypatch.setattr(CausalPolicy, "logps", logps)


@pytest.mark.usefixtures("noisy")
def test_a_policy_that_differs_from_itself_before_the_first_step_stops_the_run(train: Train) -> None:
    with pytest.raises(TrainingError, match="before the first step .* Check for dropout"):
        train()
    with pytest.raises(TrainingError, match="Check for dropout"):
        train("follows", reference_update=ReferenceUpdate())


@pytest.mark.usefixtures("noisy")
def test_where_no_reference_is_the_policy_itself_nothing_is_compared(train: Train, home: Path) -> None:
    for run in (train("uniform", reference_kind="uniform"), train("named", reference=str(home / "other"))):
        assert summary_of(run)["steps"] == 3


def test_a_reference_that_is_named_is_the_one_that_counts(train: Train, home: Path) -> None:
    assert column_of(train("own"), "direct/loss/mean")[0] == pytest.approx(math.log(2), abs=1e-5)
    assert abs(column_of(train("other", reference=str(home / "other")), "direct/loss/mean")[0] - math.log(2)) > 0.01


def test_held_out_pairs_are_measured_and_not_learned(train: Train, home: Path) -> None:
    """Held-out pairs are the training pairs the other way round: what teaches the ones unteaches the others."""
    write_rows(home / "turned.jsonl", rows(*((prompt, bad, good) for prompt, good, bad in PAIRS[:4])))
    held = train("held", held_out=str(home / "turned.jsonl"), keep=Best(every=1))
    plain = train("plain")
    losses = column_of(held, "direct/held_out_loss/mean")
    assert column_of(held, "direct/loss/mean") == column_of(plain, "direct/loss/mean")
    assert losses[-1] > losses[0] > math.log(2)
    assert {key: summary_of(held)[key] for key in ("prompts", "pairs", "steps")} == {"prompts": 6, "pairs": 6, "steps": 3}
    assert summary_of(held)["last"]["best_step"] == 1
    best, last = (load_file(run / "model" / "model.safetensors") for run in (held, plain))
    assert any(not best[name].equal(last[name]) for name in best)


def test_what_is_left_out_is_recorded(train: Train, home: Path) -> None:
    path = home / "mixed.jsonl"
    write_rows(path, [*rows(*PAIRS, ("so ", "rice " * 40, "beans"), ("no ", "rice", "rice")), {"prompt": "so ", "chosen": "rice"}])
    run = train(preferences=str(path), max_tokens=30)
    assert sum(dropped_of(run)[str(path)].values()) == 3
    assert {reason.split(":")[0] for reason in dropped_of(run)[str(path)]} >= {"too long"}
    assert summary_of(run)["prompts"] == 6
    assert summary_of(train("few", preferences=str(path), limit=2))["pairs"] == 2


def test_the_order_the_mismatch_and_the_adapter_are_drawn_from_the_runs_seed(train: Train) -> None:
    by_order = [column_of(train(f"order{seed}", seed, prompts_per_step=2), "direct/loss/mean") for seed in (1, 2)]
    assert by_order[0] != pytest.approx(by_order[1], abs=1e-4)
    by_mismatch = [column_of(train(f"kto{seed}", seed, objective=KTO()), "direct/loss/mean") for seed in (1, 2)]
    assert by_mismatch[0] != pytest.approx(by_mismatch[1], abs=1e-4)
    still = AdamW(lr=1e-9)
    made = [
        load_file(train(f"lora{seed}", seed, adapters=LoRA(rank=2), optimizer=still) / "adapter" / "adapter_model.safetensors")
        for seed in (1, 2)
    ]
    assert any(float((made[0][name] - made[1][name]).abs().max()) > 1e-3 for name in made[0])


def test_wpo_weighs_pairs(train: Train) -> None:
    plain, weighed = (column_of(train(kind, weighting=kind), "direct/loss/mean") for kind in ("none", "wpo"))
    assert weighed[1:] != pytest.approx(plain[1:], abs=1e-3)

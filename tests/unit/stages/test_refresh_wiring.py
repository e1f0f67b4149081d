"""What stage `refresh` mixes in, tests on, and says of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from palate.core import Completion, Message, Preference, Prompt
from palate.data.jsonl import write_rows
from palate.evaluation.reward_change import ComparedPredictions, ComparedScores
from palate.models.scalar import load_scalar, scalar_from
from palate.rewards.learned import LearnedReward, ReportCard
from palate.stages.refresh import Refresh
from palate.testing import tiny_policy, word_tokenizer
from palate.testing.tokenizers import WORDS
from palate.training.comparisons import judged_prompts
from palate.training.optimizer import AdamW
from tests.support.stages import column_of, dropped_of, ran, rows_of, summary_of


def pair(number: int, chosen: str, rejected: str, dimension: str = "overall") -> dict[str, Any]:
    return {"prompt": f"the cook {WORDS[number]}", "chosen": chosen, "rejected": rejected, "dimension": dimension}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model that knows nothing; new judgments like salt; old ones like two, and were tested on three prompts of theirs."""
    folder = tmp_path_factory.mktemp("home")
    scalar_from(tiny_policy("qwen3", word_tokenizer()), ("overall",), seed=0).save(folder / "reward")
    new = [pair(k, " make salt", " make rice") for k in range(10)]
    write_rows(folder / "new.jsonl", [*new, pair(0, " make salt", " make rice", "funny")])
    old = [pair(k, " for two", " for today") for k in range(10, 18)]
    write_rows(folder / "old.jsonl", old)
    write_rows(folder / "held.jsonl", [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in old[:3]])
    shown = [{"text": text, "stop": "eos", "tokens": 2} for text in ("make salt", "make rice", "for two")]
    write_rows(folder / "samples.jsonl", [{"id": str(k), "prompt": f"the {WORDS[k]}", "completions": shown} for k in range(6)])
    return folder


@pytest.fixture
def refreshed(home: Path, tmp_path: Path) -> Callable[..., Path]:
    """Runs the stage and gives its directory."""
    start = Refresh(
        str(home / "reward"), str(home / "new.jsonl"), str(home / "samples.jsonl"), held_out=(str(home / "held.jsonl"),), curve=(),
        optimizer=AdamW(lr=5e-3), epochs=3,
    )  # fmt: skip

    def run(name: str = "run", seed: int = 1, **settings: Any) -> Path:
        return ran(replace(start, **settings), tmp_path / name, "refresh", seed)

    return run


def test_old_prompts_are_mixed_in_but_for_those_that_are_tested_on(refreshed: Callable[..., Path], home: Path) -> None:
    quick: dict[str, Any] = {"prompts_per_step": 32, "epochs": 1}
    old: dict[str, Any] = {"replay": (str(home / "old.jsonl"),), **quick}
    assert summary_of(refreshed("without", **quick))["prompts"] == 8
    assert summary_of(refreshed("mixed", **old))["prompts"] == 8 + 5, "five old prompts are not tested on"
    by_seed = [refreshed(f"seed{seed}", seed, replay_share=0.2, **old) for seed in (1, 2)]
    assert [summary_of(run)["prompts"] for run in by_seed] == [8 + 2] * 2
    losses = [column_of(run, "refresh/loss/mean") for run in by_seed]
    assert losses[0] != pytest.approx(losses[1], abs=1e-5)


def test_every_earlier_round_is_mixed_in_and_tested_on(refreshed: Callable[..., Path], home: Path) -> None:
    old, held = rows_of(home, "old.jsonl"), rows_of(home, "held.jsonl")
    for name, rows in (("a", old[:2]), ("b", old[2:])):
        write_rows(home / f"{name}.jsonl", rows)
    write_rows(home / "more.jsonl", [{**held[0], "prompt": f"{held[0]['prompt']} today"}])
    rounds = {
        "replay": tuple(str(home / f"{name}.jsonl") for name in "ab"),
        "held_out": (str(home / "held.jsonl"), str(home / "more.jsonl")),
    }
    whole = summary_of(refreshed("whole", replay=(str(home / "old.jsonl"),)))
    both = summary_of(refreshed("both", **rounds))
    assert both["prompts"] == whole["prompts"]
    assert both["tests"]["old"]["after"]["n"] == whole["tests"]["old"]["after"]["n"] + 1
    assert both["last"] == whole["last"], "the same rows in two files teach the same"


def test_the_card_is_of_the_old_tests_and_the_predictions_of_the_new_ones(refreshed: Callable[..., Path], home: Path) -> None:
    run = refreshed(replay=(str(home / "old.jsonl"),))
    tests = summary_of(run)["tests"]
    card = ReportCard.read_from(str(run / "model"))
    assert card is not None
    assert (card.accuracy, card.judgments) == (tests["old"]["after"]["accuracy"], 3)
    assert tests["new"]["after"]["n"] == 2
    assert tests["new"]["after"]["accuracy"] == 1.0 != card.accuracy
    before, after = load_scalar(home / "reward"), load_scalar(run / "model")
    expected = LearnedReward(after)
    rows = rows_of(run, "predictions.jsonl")
    assert len(rows) == 2
    gaps = {round(row["chosen"] - row["rejected"], 3) for row in rows}
    scores = expected.score([Prompt("p", (Message("text", pair(k, "", "")["prompt"]),)) for k in range(10)], [SIDES] * 10)["score"]
    gain = after.normalisation.gain[0]
    assert gaps <= {round((group[0] - group[1]) / gain, 3) for group in scores}  # type: ignore[operator]
    assert summary_of(run)["scale"]["spread_after"] == pytest.approx(card.spread, rel=1e-4)
    assert summary_of(run)["scale"]["spread_before"] != pytest.approx(card.spread, rel=1e-3)
    assert any(not value.equal(before.state_dict()[name]) for name, value in after.state_dict().items())


SIDES = [Completion(" make salt"), Completion(" make rice")]


def test_judgments_about_what_the_model_does_not_know_are_recorded(refreshed: Callable[..., Path], home: Path) -> None:
    assert dropped_of(refreshed())[str(home / "new.jsonl")] == {"the model has no head funny": 1}


def test_the_change_is_from_before_to_after() -> None:
    row = {"observed": 1.0, "dimension": "overall", "prompt": 0, "chosen_tokens": 2, "rejected_tokens": 2}
    wrong, right = {**row, "chosen": 0.0, "rejected": 1.0}, {**row, "chosen": 1.0, "rejected": 0.0}
    told = ComparedPredictions([wrong, wrong, right, right], [right, right, right, wrong]).summary()
    assert (told["before"]["accuracy"], told["after"]["accuracy"], told["change"]["accuracy"]) == (0.5, 0.75, 0.25)
    assert told["change"]["se"] == pytest.approx((11 / 12) ** 0.5 / 2), "of differences by pair"


def test_prompts_whose_best_completion_changed_are_counted() -> None:
    import torch

    tokenizer = word_tokenizer()
    given = [Preference(Prompt(q, (Message("text", q),)), Completion(" rice"), Completion(" salt")) for q in ("the cook", "so", "no")]
    trees = [one.tree for one in judged_prompts(given, tokenizer, 50)[0]]
    ranked = ComparedScores.of(torch.tensor([[1.0], [0.0]] * 3), torch.tensor([[1.0], [0.0], [0.0], [2.0], [3.0], [2.0]]), trees)
    assert ranked.moved == [1]
    assert ranked.summary()["best_changed"] == pytest.approx(1 / 3)

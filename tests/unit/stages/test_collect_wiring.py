"""What stage collect asks, whom it asks, what it takes for the label, and which prompts it holds out."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.core import Completion, Judgment, Message, Preference, Prompt
from palate.raters.rater import Answered, Ask
from palate.raters.simulated import RaterPool, Simulated
from palate.runs.record import RunPlan
from palate.runs.run import Run, open_run
from palate.stages.collect import Collect, labels
from palate.testing import word_tokenizer
from palate.training.comparisons import judged_prompts
from tests.unit.stages.test_collect import GOLD, THREE, collect, rows, samples


@dataclass(frozen=True)
class Reviewed:
    """Raters who prefer the first completion, and a reviewer who first agrees and then decides for the second."""

    kind: str = "reviewed"

    def answers(
        self, run: Run, asks: Sequence[Ask], raters_per_comparison: int, rng: random.Random
    ) -> tuple[list[Answered], dict[str, object]]:
        first, second = ((0,), (1,)), ((1,), (0,))
        found: list[Answered] = []
        for comparison, dimension in asks:
            cast = [("ann", first, False), ("bob", first, False), ("olga", first, True), ("olga", second, True)]
            judged = [Judgment(comparison.id, who, tiers, dimension, is_decision=decided) for who, tiers, decided in cast]
            found.append(((comparison, dimension), judged))
        return found, {"asked": raters_per_comparison}


def test_the_last_decision_is_the_label_and_decisions_are_no_votes(tmp_path: Path) -> None:
    given = samples(tmp_path, [("it serves 2 .", "eos"), ("it serves 3 .", "eos")], prompts=4)
    stage = Collect(given, Reviewed(), raters_per_comparison=2, held_out=0.5)  # type: ignore[arg-type]
    run = open_run(tmp_path, RunPlan("judged", "collect"))
    with run.active():
        stage.run(run)
    decided = rows(run.directory, "preferences") + rows(run.directory, "held_out")
    assert [row["chosen"][0]["content"] for row in decided] == ["it serves 3 ."] * 4
    assert [(row["votes"], row["raters"]) for row in decided] == [([1.0], ["olga"])] * 4
    told: dict[str, Any] = json.loads((run.directory / "summary.json").read_text())
    assert (told["judgments"], told["questions"], told["agreement"], told["asked"]) == (8, 4, 1.0, 2)
    assert len(rows(run.directory, "judgments")) == 16  # all of it is on record
    assert [row.get("is_decision", False) for row in rows(run.directory, "judgments")][:4] == [False, False, True, True]


def test_without_a_decision_all_judgments_make_the_label() -> None:
    votes = [Judgment("c", name, ((0,), (1,))) for name in ("ann", "bob")]
    assert list(labels(votes)) == votes


def test_held_out_prompts_are_drawn_at_random(tmp_path: Path) -> None:
    given = samples(tmp_path, THREE)
    drawn = []
    for seed in range(3):
        directory, _ = collect(tmp_path / str(seed), given, seed=seed, held_out=0.3)
        drawn.append({row["id"].split("/")[0] for row in rows(directory, "held_out")})
    ids = sorted(f"p{k}" for k in range(30))
    assert all(len(tested) == 9 for tested in drawn)
    assert len({frozenset(tested) for tested in drawn}) == 3
    for run in (set(ids[:9]), set(ids[-9:]), {f"p{k}" for k in range(9)}, {f"p{k}" for k in range(21, 30)}):
        assert run not in drawn


def test_a_limit_counts_pairs_of_every_dimension(tmp_path: Path) -> None:
    directory, summary = collect(tmp_path, samples(tmp_path, THREE), limit=7, dimensions=("helpful", "honest"), held_out=0.0)
    assert summary["questions"] == 14
    asked = [row["id"].rsplit("/", 1)[0] for row in rows(directory, "preferences")]
    assert len(set(asked)) == 7
    assert rows(directory, "held_out") == []


def test_which_side_is_shown_first_and_who_is_asked_is_drawn(tmp_path: Path) -> None:
    directory, summary = collect(tmp_path, samples(tmp_path, THREE), of=Simulated(GOLD, pool=RaterPool(raters=3), repeat_share=1.0))
    told = rows(directory, "judgments")
    shown = [tuple(row["order"]) for row in told]
    assert 0.3 < shown.count((0, 1)) / len(shown) < 0.7
    assert {row["rater"] for row in told} == {row["rater"] for row in told[:12]}
    assert len({row["rater"] for row in told}) == 3
    assert summary["doubly_judged"] == summary["questions"] == len(told) / 2


def test_pairs_of_which_both_sides_are_the_same_tokens_teach_nothing() -> None:
    prompt = Prompt("p", (Message("text", "the cook has"),))
    tokenizer = word_tokenizer()
    same = Preference(prompt, Completion(" zebra"), Completion(" giraffe"))  # words that the tokenizer does not know
    other = Preference(prompt, Completion(" rice"), Completion(" salt"))
    judged, reasons = judged_prompts([same, other], tokenizer, 100)
    assert [len(one.pairs) for one in judged] == [1]
    assert reasons == ["both sides are the same tokens"]
    (one,) = judged
    assert one.preferences == (other,)

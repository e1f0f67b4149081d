"""A model card says what the runs hold and no more: on runs whose files were written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard as HubCard

from palate.core import RunError
from palate.data.jsonl import write_rows
from palate.evaluation.model_card import ModelCard
from palate.evaluation.model_trace import trace_model
from palate.evaluation.run_metrics import EvaluatedRun, evaluations_of, find_evaluated
from palate.runs.record import Parent, RunPlan
from palate.runs.run import open_run
from tests.support.evaluated_runs import completion, evaluated_run, graded

JUDGED = {"kind": "hybrid", "people": {"kind": "simulated"}}


def made(root: Path, name: str, stage: str, *parents: Parent, summary: dict[str, Any] | None = None, **config: object) -> Parent:
    """Write a finished run, and return it as an input of others."""
    settings = {**{parent.field: parent.path for parent in parents}, **config}
    with open_run(root, RunPlan(name, stage, settings, seed=5, parents=parents)).active() as run:
        run.summary(summary or {})
        if stage == "collect":
            raters = [f"simulated-{k % 30}" for k in range(60)] + ["m/i@1"] * 40
            rows = [{"comparison": f"p{k}", "rater": rater, "ranking": [[0], [1]], "guideline": "7"} for k, rater in enumerate(raters)]
            write_rows(run.directory / "judgments.jsonl", rows)
        if stage == "online":
            write_rows(run.directory / "warnings.jsonl", [{"step": k, "guard": "kl", "text": "too far"} for k in range(3)])
            run.dropped("prompts too long", ["longer than the model"] * 4)
    return Parent("", f"../{run.directory.name}", run.key)


def at(parent: Parent, field: str) -> Parent:
    return Parent(field, parent.path, parent.key)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A policy from a model of a hub, trained against a reward that scores it in its evaluation."""
    collected = {"agreement": 0.75, "doubly_judged": 40, "judges": {"calibrated": False}}
    judged = made(tmp_path, "judged", "collect", summary=collected, **{"from": JUDGED})
    reward = made(tmp_path, "reward", "reward", at(judged, "preferences"), summary={"held_out": {"overall": {"accuracy": 0.8, "n": 50}}})
    policy = made(tmp_path, "ppo", "online", at(reward, "reward"), Parent("model", "org/base", "hub:org/base"))
    rows = [completion(k, score=0.1 * k, gold=0.5 + 0.01 * k, content=f"c{k}/0") for k in range(40)]
    evals = [graded("facts", k, float(k % 4 > 0)) for k in range(12)]
    evaluated_run(
        tmp_path, "eval-ppo", rows, evals, parents=(at(policy, "model"), at(reward, "reward")), summary={"uncalibrated": ["help"]}
    )
    return tmp_path


def card(root: Path, *, with_evaluations: bool = True, **settings: Any) -> str:
    home = next(root.glob("ppo-*"))
    runs: list[EvaluatedRun] = [find_evaluated(place) for place, _ in evaluations_of(home)] if with_evaluations else []
    return ModelCard("soup", trace_model(home), runs, **settings).text()


@pytest.mark.parametrize(
    "sentence",
    [
        "The stage `online` made this model in the run `ppo-",
        "with seed 5. 3 runs led to it.",
        "(`model` of `ppo-",
        "left out 4 rows: longer than the model.",
        "holds 100 judgments of 31 raters. They come from a model that judges, and simulated raters, who are not people.",
        "Two raters of a question agree on 75.0 % of 40 questions (95 %: 59.8 % to 85.8 %).",
        "Judgments by version of the guidelines: 7 (100).",
        "| `m/i@1` | 40 |",
        "| 11 more | 22 |",
        "agrees with 80.0 % of 50 held-out judgments (95 %: 67.0 % to 88.8 %).",
        "measured one completion of each of 40 prompts.",
        "| gold | 0.695 | 0.659 to 0.731 | 40 |",
        "| eval/facts | 0.750 | 0.468 to 0.911 | 12 |",
        "trained once, with seed 5",
        "rests on fewer than 30 questions for eval/facts (12) and kind/answer (12).",
        "- `gold` is what the function `world:judge` says.",
        "The model was trained against the reward that scores it",
        "Nobody measured the judges of help on people's judgments.",
        "Nobody measured the judge of `judged-",
        "No person judged in `judged-",
        "Guards warned in `ppo-",
        "kl (3 times).",
    ],
)
def test_each_sentence_states_a_figure_of_the_runs(sentence: str, root: Path) -> None:
    assert sentence in card(root)


def test_what_was_not_measured_is_listed_and_nothing_else(root: Path) -> None:
    (line,) = [line for line in card(root).splitlines() if line.startswith("- Not measured: ")]
    for words, is_listed in (
        ("the truth", False), ("the score", False), ("skills", False), ("distance", True), ("refusals", True), ("over-refusal", True),
        ("bias", True), ("written rules", True),
    ):  # fmt: skip
        assert (words in line) == is_listed, words
    bare = card(root, with_evaluations=False)
    assert "No evaluate run measured this model." in bare
    assert "the truth" in bare
    assert "evidence of quality" not in bare


def test_the_metadata_are_those_of_hugging_face(root: Path) -> None:
    data = HubCard(card(root, license="mit", is_adapter=True)).data
    assert (data.base_model, data.license, data.library_name) == ("org/base", "mit", "peft")
    assert data.tags == ["palate", "reward", "online"]
    results = {result.metric_type: result for result in data.eval_results}
    assert results["gold"].metric_value == pytest.approx(0.695)
    assert results["gold"].metric_args["n"] == 40
    assert results["gold"].metric_args["low"] == pytest.approx(0.659, abs=1e-3)
    assert results["tokens"].metric_args == {"n": 40, "low": None, "high": None}
    plain = HubCard(card(root, with_evaluations=False)).data
    assert plain.license is None
    assert plain.eval_results is None


def test_a_baseline_adds_changes_in_pairs(root: Path) -> None:
    rows = [completion(k, gold=0.4 + 0.012 * k, content=f"c{k}/0") for k in range(40)]
    other = find_evaluated(evaluated_run(root, "eval-start", rows, model="start"))
    text = card(root, baseline=other)
    assert f"| metric | value | interval | n | change from `{other.name}` | interval |" in text
    assert "| gold | 0.695 | 0.659 to 0.731 | 40 | +0.061 | 0.054 to 0.068 |" in text
    assert "| not known | not known |" in next(line for line in text.splitlines() if line.startswith("| score |"))


def test_the_same_runs_give_the_same_bytes_and_no_path_of_the_machine(root: Path) -> None:
    assert card(root) == card(root)
    assert str(root) not in card(root)


def test_a_place_that_is_not_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run, and does not lie in one"):
        trace_model(tmp_path)

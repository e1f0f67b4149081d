"""The report's sections from files that were written by hand: each figure is of the right model, row and direction."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from palate.core import DataError
from palate.data.jsonl import write_rows
from palate.evaluation import report_sections
from palate.evaluation.evaluated_model import EvaluatedModel, read_evaluated
from palate.evaluation.report import ReportData
from palate.stages.report import Report, ReportedModel
from tests.support.stages import ran, summary_of


def completion(k: int, gold: float, kind: float, **more: Any) -> dict[str, Any]:
    row = {"id": f"p{k}", "prompt": f"question {k}", "text": f"answer {k}", "stop": "eos", "tokens": 10}
    return {**row, "gold": gold, "dimensions": {"kind": kind, "safe": 1.0 - kind}, **more}


def exam(kind: str, k: int, grade: float, **more: Any) -> dict[str, Any]:
    return {"id": f"{kind}-{k}", "eval": kind, "prompt": f"{kind} {k}", "grade": grade, **more}


def evaluated(folder: Path, rows: list[dict[str, Any]], exams: list[dict[str, Any]]) -> str:
    folder.mkdir(parents=True)
    write_rows(folder / "completions.jsonl", rows)
    if exams:
        write_rows(folder / "evals.jsonl", exams)
    return str(folder)


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """Two evaluations: the tuned model is better by a quarter on every prompt, though prompts differ a lot."""
    start = [completion(k, 0.1 * k, 0.2 * k, score=1.0 * k, probes={"please": k}) for k in range(4)]
    tuned = [completion(k, 0.1 * k + 0.25, 0.2 * k - 0.1, score=k + (1.0, -1.0, 0.0, 2.0)[k], probes={"please": 0}) for k in range(4)]
    tuned[3]["stop"] = "length"
    for row in tuned:
        row["text"], row["tokens"] = f"tuned {row['text']}", 30
    bias = [exam("bias", 2 * k + at, 0.5 + 0.25 * at, fields={"pair": k, "group": ("near", "far")[at]}) for k in (1, 0) for at in (1, 0)]
    own = [exam("facts", k, mark) for k, mark in enumerate((1.0, 1.0, 0.0, 0.0))] + [exam("odd_ones", 0, 0.5)]
    other = [exam("facts", k, mark) for k, mark in enumerate((1.0, 0.0, 0.0, 0.0))] + [exam("odd_ones", 0, 0.75)]
    return {"start": evaluated(tmp_path / "a", start, own), "tuned": evaluated(tmp_path / "b", tuned, [*other, *bias])}


@pytest.fixture
def models(places: dict[str, str]) -> list[EvaluatedModel]:
    return [read_evaluated(key, place) for key, place in places.items()]


def test_gains_are_paired_and_positive_where_the_model_is_better_than_the_reference(models: list[EvaluatedModel]) -> None:
    found = report_sections.gold_of(models, models[0])
    assert found is not None
    assert found.dimensions == ("gold", "kind", "safe")
    versus = {(score.variant, score.dimension): score.versus_reference for score in found.scores}
    assert [versus["start", dimension] for dimension in found.dimensions] == [None] * 3
    for dimension, gain in (("gold", 0.25), ("kind", -0.1), ("safe", 0.1)):
        change = versus["tuned", dimension]
        assert change is not None
        assert (change.value, change.n) == (pytest.approx(gain), 4)
        assert math.isnan(change.se), "every prompt gains the same, so nothing is known of the error"
        assert not change.excludes_zero
    means = {(score.variant, score.dimension): score.estimate.value for score in found.scores}
    assert means["start", "gold"] == pytest.approx(0.15)
    assert means["tuned", "kind"] == pytest.approx(0.2)


def test_marks_are_of_each_exam_and_model(models: list[EvaluatedModel]) -> None:
    facts, odd = report_sections.evals_of(models, models[0])
    assert (facts.key, facts.name, odd.name) == ("facts", "facts", "odd ones")
    for one, own, other in ((facts, 0.5, 0.25), (odd, 0.5, 0.75)):
        first, second = one.results
        assert (first.estimate.value, second.estimate.value) == (own, other)
        assert first.versus_reference is None
        assert second.versus_reference is not None
        assert second.versus_reference.value == pytest.approx(other - own)


def test_the_audit_sets_the_groups_of_a_pair_against_each_other(models: list[EvaluatedModel]) -> None:
    (row,) = report_sections.audit_of(models)
    assert (row.variant, row.difference.n) == ("tuned", 2)
    assert math.isnan(row.difference.se)
    assert row.difference.value == pytest.approx(0.25)  # far, the first in order of the alphabet, above near


def test_wins_are_those_of_the_model_over_the_reference(models: list[EvaluatedModel]) -> None:
    found = report_sections.win_rates_of(models, models[0])
    assert found is not None
    (row,) = found.rows
    assert (row.variant, row.opponent, row.ties) == ("tuned", "start", 1)
    assert row.estimate.value == pytest.approx(2.5 / 4)
    start, tuned = models
    without = replace(tuned, rows=[{**row, "score": None if k == 0 else row["score"]} for k, row in enumerate(tuned.rows)])
    found = report_sections.win_rates_of([start, without], start)
    assert found is not None
    assert found.rows[0].estimate.n == 3
    nothing = report_sections.win_rates_of([start, replace(tuned, rows=[{**row, "score": None} for row in tuned.rows])], start)
    assert nothing is not None
    assert nothing.rows == ()


def test_lengths_probes_and_examples_stand_with_their_model(models: list[EvaluatedModel]) -> None:
    lengths = {row.variant: (row.mean.value, row.eos_share.value) for row in report_sections.lengths_of(models)}
    assert lengths == {"start": (10, 1.0), "tuned": (30, 0.75)}
    assert [(row.variant, row.share.value) for row in report_sections.exploits_of(models)] == [("start", 0.5), ("tuned", 0.0)]
    examples = report_sections.examples_of(models, models[0], 2, ("tuned",))
    assert [example.prompt for example in examples] == ["question 0", "question 1"]
    assert [(answer.variant, answer.text, answer.truncated) for answer in examples[1].answers] == [
        ("start", "answer 1", False), ("tuned", "tuned answer 1", False),
    ]  # fmt: skip
    assert [(mark.start, mark.end) for mark in examples[0].answers[1].highlights] == [(0, 5)]


def rounded(section: object) -> str:
    """The section as text, with nine digits of each number: sums depend on the order of their terms."""
    return re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):.9f}", repr(section))


def test_rows_of_two_models_belong_together_by_their_prompts(models: list[EvaluatedModel]) -> None:
    start, tuned = models
    turned = replace(tuned, rows=tuned.rows[::-1], evals=tuned.evals[::-1])
    for section in (report_sections.gold_of, report_sections.win_rates_of, report_sections.evals_of):
        assert rounded(section([start, turned], start)) == rounded(section([start, tuned], start))
    examples = report_sections.examples_of([start, turned], start, 4, ())
    assert [answer.text for example in examples for answer in example.answers if answer.variant == "tuned"] == [
        f"tuned answer {k}" for k in range(4)
    ]


def test_prompts_that_only_one_model_answered_are_left_out_and_counted(models: list[EvaluatedModel]) -> None:
    start, tuned = models
    fewer = replace(tuned, rows=tuned.rows[1:])
    gold = report_sections.gold_of([start, fewer], start)
    assert gold is not None
    assert {score.versus_reference.n for score in gold.scores if score.versus_reference is not None} == {3}
    assert "tuned and start both answered 3 of 3 and 4 prompts." in gold.how
    wins = report_sections.win_rates_of([start, fewer], start)
    assert wins is not None
    assert wins.rows[0].estimate.n == 3
    example = report_sections.examples_of([start, fewer], start, 1, ())[0]
    assert [answer.variant for answer in example.answers] == ["start"]
    others = replace(tuned, rows=[{**row, "prompt": f"another {row['prompt']}"} for row in tuned.rows])
    with pytest.raises(DataError, match="no prompt of .* is among those of .*Evaluate both on the same prompts"):
        report_sections.gold_of([start, others], start)


def test_models_are_compared_with_each_other_too(models: list[EvaluatedModel]) -> None:
    start, tuned = models
    third = replace(tuned, key="third", rows=[{**row, "gold": row["gold"] + 0.01 * k} for k, row in enumerate(tuned.rows)])
    gold = report_sections.gold_of([start, tuned, third], start)
    assert gold is not None
    (contest,) = gold.contests
    assert (contest.first, contest.second, contest.difference.n) == ("tuned", "third", 4)
    assert contest.difference.value == pytest.approx(-0.015)


def judged(folder: Path, accuracy: float) -> str:
    folder.mkdir()
    floors = {"longer_wins": 0.4, "shorter_wins": 0.6}
    held = {name: {"accuracy": accuracy - down, "n": 100, **floors} for name, down in (("kind", 0.1), ("overall", 0))}
    (folder / "summary.json").write_text(json.dumps({"held_out": held, "preferences": 321}))
    row = {"dimension": "kind", "chosen": 2.0, "rejected": 0.0, "observed": 0.75, "chosen_tokens": 3, "rejected_tokens": 5}
    write_rows(folder / "predictions.jsonl", [row, {**row, "chosen_tokens": 6}])
    return str(folder)


@pytest.fixture
def reward(tmp_path: Path) -> tuple[str, str, str]:
    """The directories of a reward run, its control and the collect run."""
    asked = tmp_path / "asked"
    asked.mkdir()
    (asked / "summary.json").write_text(json.dumps({"ceilings": {"kind": 0.875, "overall": 0.9375}}))
    return judged(tmp_path / "reward", 0.8125), judged(tmp_path / "control", 0.5), str(asked)


def test_the_reward_model_stands_beside_its_control_and_its_ceiling(reward: tuple[str, str, str]) -> None:
    card = report_sections.reward_of(*reward)
    assert [row.dimension for row in card.rows] == ["overall", "kind"]
    first, second = card.rows
    assert (first.accuracy.value, first.accuracy.n, first.shuffled, first.ceiling) == (0.8125, 100, 0.5, 0.9375)
    assert (first.longer_wins, first.shorter_wins) == (0.4, 0.6)
    assert (second.accuracy.value, second.shuffled, second.ceiling) == (pytest.approx(0.7125), pytest.approx(0.4), 0.875)
    assert first.accuracy.low < 0.8125 < first.accuracy.high
    predicted = sorted(round(one.predicted, 3) for one in card.calibration)
    assert predicted == [0.119, 0.881], "each pair as its longer side sees it"
    assert [one.observed.value for one in sorted(card.calibration, key=lambda one: one.predicted)] == [0.25, 0.75]


@pytest.fixture
def training(tmp_path: Path) -> dict[str, str]:
    """Two online runs of two steps."""
    made = {}
    for number, name in enumerate(("tight", "loose")):
        folder = tmp_path / name
        folder.mkdir()
        row = {"online/length/mean": 7, "online/gold/se": 0.01, "online/kl_coef/value": 0.5 - 0.5 * number}
        points = [(0, 0.0, 0.1, 0.2), (1, 4.0, 1.1, 0.7)]
        names = ("step", "online/kl/mean", "online/score/mean", "online/gold/mean")
        rows = [dict(zip(names, (k, kl + number, proxy, gold), strict=True)) for k, kl, proxy, gold in points]
        write_rows(folder / "metrics.jsonl", [{**row, **one} for one in rows])
        (folder / "run.json").write_text(json.dumps({"config": {"prompts_per_iteration": 16, "samples_per_prompt": 4}}))
        made[name] = str(folder)
    return made


def test_curves_of_training_are_proxy_and_gold_over_the_kl(training: dict[str, str]) -> None:
    found = report_sections.training_of(training, "tight", "loose", {"tight": "PPO"})
    runs = [(run.name, run.kl_coef, run.role, run.n, run.variant) for run in found.runs]
    assert runs == [("tight", 0.5, "online", 64, "PPO"), ("loose", 0.0, "ablation", 64, "")]
    last = found.runs[1].points[-1]
    assert (last.step, last.kl, last.proxy, last.gold, last.gold_se, last.length) == (1, 5.0, 1.1, 0.7, 0.01, 7)
    assert (found.tuned, found.without_kl, found.off) == ("tight", "loose", "KL penalty")


@pytest.mark.parametrize(("tuned", "loose", "off"), [(True, False, "KL penalty and the texts"), (True, True, "KL penalty")])
def test_the_page_says_where_the_run_without_kl_learns_no_texts_either(
    training: dict[str, str], tuned: bool, loose: bool, off: str
) -> None:
    for name, learns in (("tight", tuned), ("loose", loose)):
        file = Path(training[name]) / "run.json"
        record = json.loads(file.read_text())
        record["config"]["pretraining"] = {"mix": {"coef": 0.5}} if learns else None
        file.write_text(json.dumps(record))
    assert report_sections.training_of(training, "tight", "loose", {}).off == off


def test_the_page_is_made_of_every_run_that_it_was_given(
    places: dict[str, str], reward: tuple[str, str, str], training: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages: list[ReportData] = []
    monkeypatch.setattr("palate.stages.report.write_report", lambda data, path: pages.append(data))
    shown = (ReportedModel(places["start"], "start", "sft"), ReportedModel(places["tuned"], "tuned", "online"))
    stage = Report(
        shown, "start", "What changed", reward=reward[0], control=reward[1], judgments=reward[2], training=training, tuned="loose"
    )
    run = ran(stage, tmp_path / "report", "report")
    (page,) = pages
    assert [answer.text for answer in page.examples[1].answers] == ["answer 1", "tuned answer 1"]
    assert page.reward_model is not None
    assert (page.reward_model.rows[0].accuracy.value, page.reward_model.rows[0].shuffled) == (0.8125, 0.5)
    assert page.reward_model.rows[0].ceiling == 0.9375
    assert page.training is not None
    assert (page.training.tuned, [one.name for one in page.training.runs]) == ("loose", ["tight", "loose"])
    assert page.gold is not None
    assert (page.reference, page.gold.scores[0].versus_reference) == ("start", None)
    assert [row.variant for row in page.lengths] == ["start", "tuned"]
    summary = summary_of(run)
    assert (summary["page"], summary["models"]) == ("report.html", ["start", "tuned"])

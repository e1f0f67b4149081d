"""What labels cost and what they were worth: counts by source, accuracy against the truth, and the sentence of the report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from palate.core import Completion, ConfigError, Message, Preference, Prompt
from palate.data.formats import preference_row
from palate.data.jsonl import write_rows
from palate.evaluation.intervals import Estimate, share
from palate.evaluation.label_sources import GoldScoreCache, label_accuracy, label_source, reward_accuracy
from palate.evaluation.report import Contest, LabelSource
from palate.evaluation.report.source_section import sources_takeaway
from palate.stages.report import Report, ReportedModel, ReportedSource
from tests.support.judged_world import gold
from tests.unit.evaluation.sample_report import sample_report

MIX = {
    "sources": {
        "people": {"questions": 30, "labels": 60, "cost": 6.0},
        "judge": {"questions": 70, "labels": 140, "cost": 0.5, "tokens": 900},
    },
    "routes": {"calibration": 10, "assigned": 20, "judge": 70},
    "unanswered": 3,
    "dimensions": {"helpful": {"believed": True}, "harmless": {"believed": False}},
}


def collect_run(folder: Path, **summary: Any) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(json.dumps({"judgments": 40, "questions": 20, **summary}))
    return str(folder)


def label(prompt: str, chosen: int, rejected: int, probability: float = 0.8) -> dict[str, Any]:
    asked = Prompt(prompt, (Message("user", prompt),))
    sides = (Completion(f"answer {number}") for number in (chosen, rejected))
    return dict(preference_row(Preference(asked, *sides, probability, dimension="helpful")))


def test_labels_belong_to_people_judges_or_both(tmp_path: Path) -> None:
    people = label_source("people", collect_run(tmp_path / "people"), None, "", None)
    judge = label_source("judge", collect_run(tmp_path / "judge", judges={"tokens_in": 5, "tokens_out": 2}), None, "ppo", None)
    both = label_source("both", collect_run(tmp_path / "both", mix=MIX, judges={"tokens_in": 1, "tokens_out": 1}), None, "", None)
    assert (people.people_labels, people.judge_labels, people.tokens, people.cost) == (40, 0, 0, None)
    assert (judge.people_labels, judge.judge_labels, judge.tokens, judge.variant) == (0, 40, 7, "ppo")
    assert (both.people_labels, both.judge_labels, both.tokens, both.cost) == (60, 140, 900, 6.5)
    plain = label_source("judge", collect_run(tmp_path / "plain", judges={"calibrated": False}), None, "", None)
    carded = label_source("judge", collect_run(tmp_path / "carded", judges={"calibrated": True}), None, "", None)
    assert (judge.name, plain.name, carded.name) == ("judge", "judge (uncalibrated)", "judge")
    assert both.mix == (
        "the judge answered 70 questions and people 30; the judge is as good as people on helpful; routed to people: 10 to compare both "
        "and 20 on dimensions that people judge alone; 3 questions stayed without an answer"
    )


def test_labels_are_right_where_they_are_on_the_side_of_the_truth(tmp_path: Path) -> None:
    right, wrong, tied, unknown = label("a", 9, 3), label("b", 2, 5), label("c", 9, 1, 0.5), label("d", 4, 4)
    write_rows(tmp_path / "preferences.jsonl", [right, wrong, tied, unknown])
    write_rows(tmp_path / "held_out.jsonl", [right])
    found = label_accuracy(str(tmp_path), gold)
    assert found is not None
    assert found.value == pytest.approx((1 + 0 + 0.5 + 1) / 4)
    write_rows(tmp_path / "held_out.jsonl", [{**right, "dimension": "honest"}])
    honest = label_accuracy(str(tmp_path), gold, "honest")
    assert honest is not None
    assert (honest.value, honest.n) == (1, 1)
    assert label_accuracy(str(tmp_path), gold, "harmless") is None


def test_a_completion_is_scored_once_for_all_sources(tmp_path: Path) -> None:
    scored: list[str] = []

    def counted(prompt: str, completion: str, /, **fields: object) -> Mapping[str, float]:
        scored.append(completion)
        return gold(prompt, completion, **fields)

    scores: GoldScoreCache = {}
    for name in ("people", "judge"):
        folder = collect_run(tmp_path / name)
        write_rows(tmp_path / name / "preferences.jsonl", [label("a", 9, 3), label("a", 9, 3), label("a", 3, 9)])
        found = label_source(name, folder, None, "", counted, None, scores).label_accuracy
        assert found is not None
        assert found.value == pytest.approx(2 / 3)
    assert scored == ["answer 9", "answer 3"]


def test_people_are_priced_by_the_report_or_by_their_budget(tmp_path: Path) -> None:
    asked, judge = collect_run(tmp_path / "people"), collect_run(tmp_path / "judge", judges={"cost": 2.5, "tokens_in": 5})
    assert label_source("people", asked, None, "", None, 0.1).cost == pytest.approx(4.0)
    assert label_source("people", asked, None, "", None, 0.0).cost == 0.0
    paid = label_source("judge", judge, None, "", None)
    assert (paid.cost, paid.has_free_judge) == (2.5, False)
    free = label_source("judge", collect_run(tmp_path / "free", judges={"cost": 0.0}), None, "", None)
    assert (free.cost, free.has_free_judge) == (0.0, True)
    both = collect_run(tmp_path / "both", mix=MIX)
    assert label_source("both", both, None, "", None).cost == 6.5
    assert label_source("both", both, None, "", None, 1.0).cost == 60.5


def test_the_reward_model_is_tested_on_pairs_that_have_a_side(tmp_path: Path) -> None:
    rows = [{"chosen": 1.0, "rejected": 0.0, "observed": one} for one in (1.0, 1.0, 0.0, 0.5)]
    write_rows(tmp_path / "predictions.jsonl", rows)
    assert reward_accuracy(str(tmp_path)) == share(2, 3)
    write_rows(tmp_path / "predictions.jsonl", rows[3:])
    assert reward_accuracy(str(tmp_path)) is None


def test_the_sentence_says_what_was_gained_with_whose_labels() -> None:
    report = sample_report()
    assert report.gold is not None
    report = replace(report, gold=replace(report.gold, contests=(Contest("ppo", "dpo", Estimate(0.04, 0.03, -0.02, 0.1, 400)),)))
    text = sources_takeaway(report)
    assert "with 17,242 labels of people and DPO gains" in text
    assert "with no label of a person" in text
    assert "PPO is not measurably apart from DPO (+0.04, 1.3 SE)" in text
    assert "with people 71.8 % (71 to 73 %)" in text
    alone = replace(report, sources=(LabelSource("people", 1, 0, 0, 1),))
    assert sources_takeaway(alone) == ""


def test_a_source_names_a_model_of_the_report() -> None:
    report = Report((ReportedModel("x", "SFT"),), "SFT", sources=(ReportedSource("people", "y", model="PPO"),))
    with pytest.raises(ConfigError, match="'PPO' is not one of the models"):
        report.check()

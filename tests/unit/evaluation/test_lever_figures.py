"""Levers: accuracy and gold of each setting, paired changes, and gold against accuracy over all settings."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from palate.core import ConfigError, DataError
from palate.data.jsonl import write_rows
from palate.evaluation.intervals import Estimate
from palate.evaluation.lever_figures import ReportedLever, ReportedPoint, levers_of
from palate.evaluation.report.lever_records import AccuracyEffect, Lever, LeverPoint, Levers
from palate.evaluation.report.lever_section import (
    accuracy_effect_chart,
    accuracy_effect_takeaway,
    lever_charts,
    lever_takeaway,
    levers_headline,
)
from palate.runs.record import RunPlan
from palate.runs.run import open_run
from tests.support.evaluated_runs import completion, evaluated_run
from tests.unit.evaluation.sample_report import sample_report


def reranked(root: Path, name: str, gold: list[float]) -> str:
    """A rerank run whose best of 4 has this gold; every third prompt is about poison."""
    with open_run(root, RunPlan(name, "rerank", {"name": name})).active() as run:
        texts = [f"{'poison' if k % 3 == 0 else 'soup'} {k}" for k in range(len(gold))]
        turns = [[{"role": "system", "content": "poison"}, {"role": "user", "content": text}] for text in texts]
        write_rows(run.directory / "samples.jsonl", [{"id": f"p{k}", "prompt": turn, "completions": []} for k, turn in enumerate(turns)])
        write_rows(
            run.directory / "curve.jsonl", [{"id": f"p{k}", "score": [0, 0, 0], "gold": [0.1, 0.2, one]} for k, one in enumerate(gold)]
        )
        run.summary({"prompts": len(gold)})
    return str(run.directory)


def rewarded(root: Path, name: str, right: list[bool], *, prompts: int = 5) -> str:
    with open_run(root, RunPlan(name, "reward", {"name": name})).active() as run:
        rows = [
            {"dimension": "overall", "prompt": k % prompts, "chosen": float(one), "rejected": 0.5, "observed": 1.0}
            for k, one in enumerate(right)
        ]
        write_rows(run.directory / "predictions.jsonl", rows)
        run.summary({})
    return str(run.directory)


GOLD = [0.5, 0.6, 0.4, 0.7, 0.5, 0.6, 0.2, 0.9, 0.5]


@pytest.fixture
def lever(tmp_path: Path) -> ReportedLever:
    """Three settings: accuracy .5, .6, .8; gold rises by .1, and by .3 more on poison."""
    rng = np.random.default_rng(1)
    points = []
    for k, accuracy in enumerate((10, 12, 16)):
        gold = [g + 0.1 * k + (0.15 * k if n % 3 == 0 else 0) + rng.normal(0, 0.01) for n, g in enumerate(GOLD)]
        reward = rewarded(tmp_path, f"reward-{k}", [j < accuracy for j in range(20)])
        points.append(ReportedPoint(str(k), reranked(tmp_path, f"best-{k}", gold), reward))
    return ReportedLever("Label noise", tuple(points), "sharpness")


def test_points_have_the_gold_of_the_largest_n_and_the_accuracy_on_held_out_judgments(lever: ReportedLever) -> None:
    (found,) = levers_of([lever], 0.8).levers
    assert [point.at for point in found.points] == ["0", "1", "2"]
    assert found.points[0].gold.value == pytest.approx(np.mean(GOLD), abs=0.02)
    assert [point.accuracy.value for point in found.points if point.accuracy] == [0.5, 0.6, 0.8]
    assert [point.accuracy.n for point in found.points if point.accuracy] == [5, 5, 5], "clusters are prompts"
    assert (found.prompts, found.has_region) == (9, False)
    change = found.changes["gold"]
    assert change.value == pytest.approx(0.3, abs=0.02)
    assert found.main_change is change
    assert change.n == 9
    accuracy = found.changes["accuracy"]
    assert (accuracy.value, accuracy.n) == (pytest.approx(0.3), 5)


def test_a_region_is_shown_beside_the_other_prompts(lever: ReportedLever) -> None:
    (found,) = levers_of([replace(lever, region="^poison")], None).levers
    last = found.points[-1]
    assert last.inside is not None
    assert last.outside is not None
    assert (last.inside.n, last.outside.n) == (3, 6)
    assert found.changes["inside"].value == pytest.approx(0.5, abs=0.03)
    assert found.changes["outside"].value == pytest.approx(0.2, abs=0.03)
    assert found.main_change is found.changes["inside"]
    for pattern in ("tea", "."):
        with pytest.raises(DataError, match="Correct the pattern"):
            levers_of([replace(lever, region=pattern)], None)


def test_the_slope_is_that_of_least_squares_with_the_error_between_prompts(lever: ReportedLever) -> None:
    effect = levers_of([lever], 0.8).accuracy
    assert effect is not None
    x = [accuracy.value for _, _, accuracy, _ in effect.points]
    y = [gold.value for *_, gold in effect.points]
    assert effect.slope.value == pytest.approx(0.1 * np.polyfit(x, y, 1)[0])
    assert (effect.slope.n, effect.ceiling) == (9, 0.8)
    again = levers_of([lever, replace(lever, name="again")], None).accuracy
    assert again is not None
    assert len(again.points) == 3, "a policy counts once"
    assert levers_of([replace(lever, region="poison")], None).accuracy is None, "a region is another question"
    assert levers_of([replace(lever, points=lever.points[:2])], None).accuracy is None


def test_evaluated_policies_have_a_lever_too_on_the_prompts_of_all(tmp_path: Path) -> None:
    runs = [
        evaluated_run(tmp_path, f"eval-{k}", [completion(n, gold=0.5 + 0.1 * k + 0.02 * n * k) for n in range(4 - k)]) for k in range(2)
    ]
    points = tuple(ReportedPoint(str(k), str(run)) for k, run in enumerate(runs))
    (found,) = levers_of([ReportedLever("Epochs", points)], None).levers
    assert found.prompts == 3
    assert found.changes == {"gold": found.changes["gold"]}
    assert found.changes["gold"].value == pytest.approx(0.12)


def test_runs_without_gold_or_common_prompts_are_refused(tmp_path: Path, lever: ReportedLever) -> None:
    blind = evaluated_run(tmp_path, "blind", [completion(0)])
    other = evaluated_run(tmp_path, "other", [completion(70, gold=1.0)])
    for policy, error, text in ((blind, DataError, "measured no gold"), (other, DataError, "no common prompt")):
        points = (*lever.points[:1], ReportedPoint("x", str(policy)))
        with pytest.raises(error, match=text):
            levers_of([replace(lever, points=points)], None)
    with pytest.raises(ConfigError, match="not a run of rerank or evaluate"):
        levers_of([replace(lever, points=(ReportedPoint("x", lever.points[0].reward or ""), *lever.points))], None)
    with pytest.raises(ConfigError, match="has 1 points"):
        replace(lever, points=lever.points[:1]).check()
    with pytest.raises(ConfigError, match="not a regular expression"):
        replace(lever, region="(").check()


def estimate(value: float, half: float = 0.02) -> Estimate:
    return Estimate(value, half / 1.96, value - half, value + half, 100)


def made(name: str, gold: float, accuracy: float | None = None, **region: float) -> Lever:
    """A lever whose changes are these."""
    points = tuple(
        LeverPoint(at, estimate(0.5), None if accuracy is None else estimate(0.6), *((estimate(0.4), estimate(0.5)) if region else ()))
        for at in ("few", "many")
    )
    changes = {"gold": gold, **region, **({} if accuracy is None else {"accuracy": accuracy})}
    return Lever(name, "how many", points, {key: estimate(value) for key, value in changes.items()}, 100)


def test_sentences_say_what_the_intervals_say() -> None:
    assert lever_takeaway(made("Noise", 0.1, 0.05)) == (
        "From few to many, the reward model\u2019s accuracy moves by +5.0 points (4.9 SE) and the policy\u2019s gold rises by 0.10 "
        "(9.8 SE)."
    )
    assert lever_takeaway(made("Noise", 0.01)) == "From few to many, the policy\u2019s gold does not measurably change (+0.01, 1.0 SE)."
    assert lever_takeaway(made("Coverage", 0.0, 0.01, inside=0.3, outside=-0.05)) == (
        "From few to many, the reward model\u2019s accuracy does not measurably change. On the region\u2019s prompts gold rises by 0.30 "
        "(29 SE), and on the others it falls by 0.05 (4.9 SE)."
    )
    levers = (made("Noise", 0.1), made("Coverage", 0.0, inside=0.3, outside=0.0), made("Epochs", 0.0))
    assert levers_headline(replace(sample_report(), levers=Levers(levers))) == (
        "From one end to the other, gold moves with noise by +0.10 and coverage by +0.30 on its region. Epochs does not measurably move it."
    )
    assert levers_headline(sample_report()) == ""


def test_a_change_that_is_the_same_everywhere_is_decided_by_its_sign() -> None:
    lever = made("Coverage", 0.0, inside=1.0, outside=0.0)
    for n, text in ((17, "gold rises by 1.00 (the same in all of 17 values)"), (5, "gold does not measurably change (+1.00, the same")):
        same = replace(lever, changes={**lever.changes, "inside": Estimate(1.0, math.nan, math.nan, math.nan, n)})
        assert text in lever_takeaway(same)
        assert ("+1.00 on its region" in levers_headline(replace(sample_report(), levers=Levers((same,))))) is (n == 17)


def test_gold_against_accuracy_is_said_and_drawn() -> None:
    points = (("Noise", "1", estimate(0.55), estimate(0.6)), ("Noise", "14", estimate(0.7), estimate(0.75)))
    report = replace(sample_report(), levers=Levers((made("Noise", 0.1, 0.1),), AccuracyEffect(points, estimate(0.1), 0.8)))
    assert accuracy_effect_takeaway(report) == (
        "Between accuracies of 55.0 % and 70.0 %, ten points of accuracy go with 0.10 more gold (0.08 to 0.12). "
        "The ceiling with these raters is 80.0 %."
    )
    flat = replace(report, levers=Levers((), AccuracyEffect(points, estimate(0.01))))
    assert "does not measurably make a better policy" in accuracy_effect_takeaway(flat)
    chart = accuracy_effect_chart(report)
    assert chart is not None
    assert "Noise 14: accuracy 70.0 %, gold 0.75" in chart.alt
    (drawn,) = lever_charts(report)
    assert "ceiling 80 %" in drawn.wide
    assert "Gold of the policy: few 0.50 (0.48 to 0.52), many" in drawn.alt

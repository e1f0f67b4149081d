"""A sweep over KL strengths becomes one frontier, and its sentence says what the intervals say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate.core import ConfigError, DataError
from palate.data.jsonl import write_rows
from palate.evaluation.evaluated_model import EvaluatedModel, read_evaluated
from palate.evaluation.intervals import Estimate, mean, paired_difference
from palate.evaluation.kl_sweep import kl_sweep
from palate.evaluation.report.lever_records import KLSweep, SweepPoint, SweepScore
from palate.evaluation.report.sweep_section import sweep_chart, sweep_takeaway
from palate.evaluation.trained_against import is_scored_by_its_teacher
from palate.runs.record import Parent, RunPlan, read_record
from palate.runs.run import open_run
from palate.stages.report import Report, ReportedModel
from tests.support.evaluated_runs import completion, evaluated_run
from tests.unit.evaluation.sample_report import sample_report


def online(root: Path, coefficient: float, *, gold: float = 0.6, reward: Path | None = None, **settings: object) -> Path:
    """An online run of eight iterations; gold and KL rise linearly to their last values, with an error of .01 per iteration."""
    learned = {"reward": str(reward), "held_out": {"reward": str(reward)}, "keep": {"kind": "last"}}
    parents = () if reward is None else (parent_of("reward", reward),)
    config = {"kl": {"control": {"coef": coefficient}}, **({} if reward is None else learned), **settings}
    with open_run(root, RunPlan(f"kl-{coefficient:g}", "online", config, parents=parents)).active() as run:
        rows = []
        for step in range(8):
            part = step / 7
            row = {
                "step": step,
                "online/kl_coef/value": coefficient,
                "online/kl/mean": 4 * part,
                "online/gold/mean": 0.5 + (gold - 0.5) * part,
                "online/gold/se": 0.01,
                "online/score/mean": part,
                "online/score/se": 0.1,
                "online/held_out_score/mean": 2 * part,
                "online/held_out_score/se": 0.05,
            }
            rows.append(row)
        write_rows(run.directory / "metrics.jsonl", rows)
        run.summary({"iterations": 8})
    return run.directory


def parent_of(field: str, directory: Path) -> Parent:
    """A run as an input of another."""
    record = read_record(directory)
    assert record is not None
    return Parent(field, str(directory), record.key)


def reward_run(root: Path, name: str) -> Path:
    """A run that made a reward model."""
    with open_run(root, RunPlan(name, "reward", {"name": name})).active() as run:
        run.summary({})
    return run.directory


def model_of(root: Path, trained: Path, gold: list[float], kl: float, name: str, held_out: Path | None = None) -> Path:
    """An evaluate run of the model that an online run made; a held-out score falls as gold rises."""
    more = [{} if held_out is None else {"held_out_score": -value} for value in gold]
    rows = [completion(k, gold=value, kl=kl + k % 3, score=10 * value, **more[k]) for k, value in enumerate(gold)]
    parents = (parent_of("model", trained), *(() if held_out is None else (parent_of("held_out_reward", held_out),)))
    return evaluated_run(root, name, rows, parents=parents)


@pytest.fixture
def start(tmp_path: Path) -> EvaluatedModel:
    rows = [completion(k, gold=0.5 + 0.01 * (k % 5)) for k in range(20)]
    return read_evaluated("SFT", str(evaluated_run(tmp_path, "start", rows)))


def test_a_report_keeps_the_figures_of_its_sweep(tmp_path: Path) -> None:
    start = evaluated_run(tmp_path, "start", [completion(k, gold=0.5 + 0.01 * (k % 5), dimensions={"helpful": 0.5}) for k in range(20)])
    runs = tuple(str(online(tmp_path, coefficient, gold=gold)) for coefficient, gold in ((0.1, 0.7), (10.0, 0.5)))
    with open_run(tmp_path, RunPlan("report", "report")).active() as run:
        Report((ReportedModel(str(start), "SFT", "sft"),), "SFT", sweep=runs).run(run)
    kept = json.loads((run.directory / "summary.json").read_text())
    assert [point["coefficient"] for point in kept["sweep"]["points"]] == [0.1, 10.0]
    assert kept["sweep"]["points"][0]["value"]["value"] > 0.65
    assert "levers" not in kept


def test_online_runs_are_measured_on_their_last_quarter(tmp_path: Path, start: EvaluatedModel) -> None:
    runs = [str(online(tmp_path, coefficient, gold=gold)) for coefficient, gold in ((0.1, 0.7), (10.0, 0.5), (0.001, 0.4))]
    sweep = kl_sweep(runs, start, "SFT")
    assert [point.coefficient for point in sweep.points] == [0.001, 0.1, 10.0]
    assert sweep.measure == "gold"
    low, best, high = sweep.points
    ends = [0.5 - 0.1 * part for part in (6 / 7, 1)]
    assert low.value.value == pytest.approx(np.mean(ends))
    assert low.value.se == pytest.approx(0.01 / np.sqrt(2))
    assert low.kl.value == pytest.approx(4 * 6.5 / 7)
    assert sweep.best is best
    assert best.below_best is None
    assert sweep.start is not None
    assert (sweep.start.value, sweep.start.se, sweep.start_name) == (0.5, 0.01, "the start")
    assert high.over_start is not None
    assert high.over_start.value == pytest.approx(0)
    assert high.over_start.se == pytest.approx(0.01 * np.sqrt(1.5))
    assert high.below_best is not None
    plain = 1.959963984540054 * high.below_best.se
    assert high.below_best.high - high.below_best.value > 1.1 * plain, "the interval allows for the choice of the best of three"
    assert low.proxy is not None
    assert low.proxy.value.value == pytest.approx(6.5 / 7)


def test_without_gold_the_held_out_score_is_the_measure(tmp_path: Path, start: EvaluatedModel) -> None:
    blind = [str(online(tmp_path, coefficient)) for coefficient in (0.1, 1.0)]
    for directory in blind:
        path = Path(directory) / "metrics.jsonl"
        path.write_text(path.read_text().replace("online/gold", "online/other"))
    sweep = kl_sweep(blind, start, "SFT")
    assert sweep.measure == "held-out score"
    assert sweep.points[0].value.value == pytest.approx(13 / 7)
    for directory in blind:
        path = Path(directory) / "metrics.jsonl"
        path.write_text(path.read_text().replace("online/held_out_score", "online/more"))
    with pytest.raises(DataError, match="not all runs measured gold"):
        kl_sweep(blind, start, "SFT")


def test_evaluated_models_are_paired_by_prompt_with_each_other_and_with_the_start(tmp_path: Path, start: EvaluatedModel) -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 0.2, 20)
    golds = {0.01: hard + 0.4, 1.0: hard + 0.6 + rng.normal(0, 0.01, 20)}
    runs = [
        str(model_of(tmp_path, online(tmp_path, coefficient), gold.tolist(), 2.0, f"eval-{coefficient:g}"))
        for coefficient, gold in golds.items()
    ]
    sweep = kl_sweep(runs, start, "SFT")
    assert [point.coefficient for point in sweep.points] == [0.01, 1.0]
    for point, gold in zip(sweep.points, golds.values(), strict=True):
        assert point.value.value == pytest.approx(gold.mean())
        assert point.kl.value == pytest.approx(2 + np.mean([k % 3 for k in range(20)]))
        assert point.over_start is not None
        expected = paired_difference(gold, [0.5 + 0.01 * (k % 5) for k in range(20)])
        assert point.over_start.value == pytest.approx(expected.value)
        assert point.proxy is not None
        assert point.proxy.value.value == pytest.approx(10 * gold.mean())
    below = sweep.points[0].below_best
    assert below is not None
    assert below.se < 0.01 < mean(golds[1.0]).se, "paired"
    assert "20 prompts that all runs share" in sweep.how


def test_scores_are_compared_with_the_best_run_and_the_tuned_run_is_marked(tmp_path: Path, start: EvaluatedModel) -> None:
    check = reward_run(tmp_path, "check")
    trained = [online(tmp_path, coefficient) for coefficient in (0.0, 0.1)]
    golds = [[0.4, 0.5, 0.3, 0.4], [0.6, 0.8, 0.6, 0.7]]
    runs = [str(model_of(tmp_path, *of, 2.0, f"eval-{k}", check)) for k, of in enumerate(zip(trained, golds, strict=True))]
    low, best = kl_sweep(runs, start, "SFT", str(trained[1])).points
    assert [(one.run, one.is_tuned) for one in (low, best)] == [("kl-0", False), ("kl-0.1", True)]
    for score, sign in ((low.proxy, 10), (low.held_out, -1)):
        assert score is not None
        assert score.value.value == pytest.approx(sign * np.mean(golds[0]))
        assert score.over_best is not None
        assert score.over_best.value == pytest.approx(sign * (np.mean(golds[0]) - np.mean(golds[1])))
        assert score.over_best.se == pytest.approx(paired_difference(*(sign * np.array(gold) for gold in golds)).se)
    assert best.proxy is not None
    assert best.proxy.over_best is None
    assert not any(one.is_tuned for one in kl_sweep(runs, start, "SFT").points)


def test_a_reward_model_that_only_watched_the_training_is_held_out(tmp_path: Path) -> None:
    check, other = (reward_run(tmp_path, name) for name in ("check", "other"))

    def is_taught(trained: Path, name: str) -> bool | None:
        return is_scored_by_its_teacher(model_of(tmp_path, trained, [0.5, 0.6], 1.0, name, check), "held_out_reward")

    assert is_taught(online(tmp_path, 0.1), "none") is False
    assert is_taught(online(tmp_path, 1.0, reward=check), "taught") is True
    watched = online(tmp_path, 2.0, reward=other)
    record = read_record(watched)
    assert record is not None
    both = (*record.parents, parent_of("held_out.reward", check))
    replace(record, parents=both).write(watched)
    assert is_taught(watched, "watched") is False
    replace(record, parents=both, config={**record.config, "keep": {"kind": "best_reward"}}).write(watched)
    assert is_taught(watched, "chosen") is True
    assert is_scored_by_its_teacher(evaluated_run(tmp_path, "strange", [completion(0)]), "held_out_reward") is None


def test_other_settings_of_a_run_are_named_beside_those_of_the_best(tmp_path: Path, start: EvaluatedModel) -> None:
    one = online(
        tmp_path, 0.0, gold=0.5, prompts_per_iteration=24, pretraining=None, optimizer={"lr": 0.1}, reward=reward_run(tmp_path, "a")
    )
    texts = {"data": "corpus", "mix": {"coef": 0.5}}
    other = online(
        tmp_path, 0.1, gold=0.7, prompts_per_iteration=48, pretraining=texts, optimizer={"lr": 0.2}, reward=reward_run(tmp_path, "b")
    )
    low, best = kl_sweep([str(one), str(other)], start, "SFT").points
    assert low.others[:1] == ("another reward",)
    assert set(low.others) >= {
        "24 prompts per iteration instead of 48",
        "no texts learned beside the rewards",
        "optimizer lr 0.1 instead of 0.2",
    }
    assert best.others == ()
    assert not any("coef" in words for words in low.others), "how the KL is paid for is what the sweep is about"


def test_runs_that_are_no_sweep_are_refused(tmp_path: Path, start: EvaluatedModel) -> None:
    first = online(tmp_path, 0.1)
    evaluation = model_of(tmp_path, first, [0.5, 0.6], 1.0, "one")
    with pytest.raises(ConfigError, match="online runs alone, or evaluate runs"):
        kl_sweep([str(first), str(evaluation)], start, "SFT")
    with pytest.raises(ConfigError, match=r"two of the runs have the KL coefficient 0\.1"):
        kl_sweep([str(first), str(first)], start, "SFT")
    strange = evaluated_run(tmp_path, "strange", [completion(k, gold=0.5, kl=1.0) for k in range(2)])
    with pytest.raises(ConfigError, match="0 online runs led to the model"):
        kl_sweep([str(strange), str(evaluation)], start, "SFT")


def estimate(value: float, half: float = 0.02) -> Estimate:
    return Estimate(value, half / 1.96, value - half, value + half, 100)


def point(coefficient: float, value: float, over: float, below: float | None, kl: float, **more: Any) -> SweepPoint:
    return SweepPoint(coefficient, estimate(kl), estimate(value), estimate(over), None if below is None else estimate(below), **more)


def said(*points: SweepPoint) -> str:
    return sweep_takeaway(replace(sample_report(), sweep=KLSweep("gold", points, estimate(0.55), "SFT", "")))


BEST = point(0.1, 0.7, 0.15, None, 2)


def test_the_sentence_follows_the_intervals() -> None:
    text = said(point(0.001, 0.5, -0.05, -0.2, 16), BEST, point(10, 0.55, 0.0, -0.15, 0.01))
    assert text.startswith("Gold is highest at the coefficient 0.1: 0.70 (0.68 to 0.72), +0.15, 15 SE against SFT.")
    assert "Too low goes off the rails: at 0.001 it is 0.50 (\u22120.20, 20 SE), at \u221aKL 4.0 and below SFT" in text
    assert "Too high changes nothing: at 10 the policy is not measurably apart from SFT" in text
    assert "at \u221aKL 4.0: no harm of a low price is shown" in said(point(0.001, 0.69, 0.14, -0.01, 16), BEST)
    assert "no harm of a high price is shown" in said(BEST, point(10, 0.69, 0.14, -0.01, 1))
    text = said(BEST, point(10, 0.6, 0.05, -0.1, 0.2))
    assert "A high price costs gain and does not stop it: at 10 it is 0.60 (\u22120.10, 9.8 SE) and above SFT" in text
    assert "A high price costs gain: at 10 it is 0.50 (\u22120.20, 20 SE) and below SFT" in said(BEST, point(10, 0.5, -0.05, -0.2, 0.2))
    assert "0.1 is the smallest one, so none of these is shown to be too low." in text
    assert "0.1 is the largest one, so none of these is shown to be too high." in said(point(0.001, 0.5, -0.05, -0.2, 16), BEST)


def test_the_sentence_says_whether_scores_show_the_loss_and_what_else_differs() -> None:
    up, down, level = (SweepScore(estimate(2), estimate(value)) for value in (1.5, -0.4, 0.01))

    def of(proxy: SweepScore, held_out: SweepScore, **more: Any) -> str:
        return said(point(0, 0.5, -0.05, -0.2, 16, proxy=proxy, held_out=held_out, **more), BEST)

    text = of(up, up, others=("no texts", "24 prompts instead of 48"))
    assert "There the trained-on score is higher (+1.50, 147 SE), and the held-out score is higher" in text
    assert ": no score shows the loss." in text
    assert text.endswith("only cause: unlike the run at 0.1, the one at 0 has no texts and 24 prompts instead of 48.")
    assert "the held-out score is lower (\u22120.40, 39 SE)." in of(up, down)
    assert "the held-out score is not measurably apart (+0.01, 1.0 SE)." in of(up, level)
    assert "only cause" not in of(up, down)
    assert "no score shows" not in said(point(0, 0.69, 0.14, -0.01, 16, proxy=up, held_out=up), BEST), "there is no loss to show"


def test_the_chart_names_every_coefficient_and_the_start() -> None:
    points = (point(0.001, 0.5, -0.05, -0.2, 16, proxy=SweepScore(estimate(2))), replace(BEST, proxy=SweepScore(estimate(1))))
    chart = sweep_chart(replace(sample_report(), sweep=KLSweep("gold", points, estimate(0.55), "SFT", "")))
    assert chart is not None
    for drawing in (chart.wide, chart.narrow):
        assert [word for word in (">0.001<", ">0.1<", ">SFT<", "what training maximises") if word not in drawing] == []
    assert "Coefficient 0.001: gold 0.50 (0.48 to 0.52) at the square root of KL 4.0, trained-on score 2.00" in chart.alt
    tuned = (*points[:1], replace(points[1], is_tuned=True))
    chart = sweep_chart(replace(sample_report(), sweep=KLSweep("gold", tuned, estimate(0.55), "SFT", "")))
    assert chart is not None
    assert ">0.1 tuned<" in chart.wide
    assert "coefficient 0.1 (tuned)" in chart.alt

"""Standing controls beside the models of a report: figures on the same prompts, a warning where one is above the reference, the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from palate.data.jsonl import write_rows
from palate.evaluation.control_figures import control_rows
from palate.evaluation.evaluated_model import EvaluatedModel, read_evaluated
from palate.evaluation.intervals import Estimate
from palate.evaluation.report import render
from palate.evaluation.report.control_section import controls_takeaway
from palate.evaluation.report.lever_records import AccuracyEffect, ControlRow, KLSweep, Lever, LeverPoint, Levers, SweepPoint
from palate.evaluation.report.report_data import ReportData
from palate.runs.record import Parent
from tests.support.evaluated_runs import completion, evaluated_run
from tests.unit.evaluation.sample_report import part_of_sample, sample_report


def model(root: Path, name: str, score: float, reward: str = "r" * 12) -> EvaluatedModel:
    rows = [completion(k, score=score + k % 3, gold=0.1 * k) for k in range(8)]
    directory = evaluated_run(root, name, rows, parents=(Parent("reward", "reward", reward),), start=name)
    return read_evaluated(name, str(directory))


@pytest.fixture
def models(tmp_path: Path) -> list[EvaluatedModel]:
    """SFT with two controls on the first four prompts, a model with the same reward model and one with another."""
    sft = model(tmp_path, "sft", 1.0)
    rows = [
        {**completion(k), "control": name, "score": high + 0.1 * (k % 2), "gold": 0.0}
        for k in range(4)
        for name, high in (("null answer", -5.0), ("length only", 4.0))
    ]
    write_rows(Path(sft.directory) / "controls.jsonl", rows)
    return [sft, model(tmp_path, "ppo", 2.0), model(tmp_path, "dpo", 9.0, "q" * 12)]


def test_controls_come_first_and_all_figures_are_of_their_prompts(models: list[EvaluatedModel]) -> None:
    rows = control_rows(models, models[0])
    assert [(row.name, row.variant) for row in rows] == [("null answer", ""), ("length only", ""), *((m.key, m.key) for m in models)]
    long = rows[1]
    assert long.score is not None
    assert long.score_gap is not None
    assert (long.score.value, long.score.n) == (pytest.approx(4.05), 4)
    assert long.score_gap.value == pytest.approx(4.05 - 1.75)
    assert long.gold_gap is not None
    assert long.gold_gap.value == pytest.approx(-0.15)
    sft, ppo, dpo = rows[2:]
    assert (sft.score_gap, sft.gold_gap) == (None, None)
    assert ppo.score is not None
    assert ppo.score.value == pytest.approx(2.75), "of the first four prompts"
    assert ppo.score_gap is not None
    assert ppo.score_gap.value == pytest.approx(1.0)
    assert (dpo.score, dpo.score_gap) == (None, None), "another reward model scored it"
    assert dpo.gold is not None
    assert control_rows(models[1:], models[1]) == ()


def estimate(value: float) -> Estimate:
    return Estimate(value, 0.01, value - 0.02, value + 0.02, 64)


def controlled(*rows: ControlRow) -> ReportData:
    return replace(sample_report(), controls=rows)


NULL = ControlRow("null answer", "", estimate(-2), estimate(-2.0), estimate(0.3), estimate(-0.2))
LONG = ControlRow("length only", "", estimate(0.2), estimate(0.3), estimate(0.3), estimate(-0.2))


def test_a_control_above_the_reference_is_a_caution() -> None:
    caution = "Caution: the reward model scores \u201clength only\u201d (+0.30, 30 SE) above SFT. A policy can earn that without content."
    assert controls_takeaway(controlled(NULL, LONG)) == caution
    quiet = "The reward model scores no control measurably above SFT: \u201cnull answer\u201d (\u22122.00, 200 SE)."
    assert controls_takeaway(controlled(NULL)) == quiet
    odd = replace(NULL, gold_gap=estimate(0.2))
    assert controls_takeaway(controlled(odd)).endswith("Caution: gold puts \u201cnull answer\u201d (+0.20, 20 SE) above SFT.")


def test_the_page_has_the_sweep_the_levers_and_the_controls() -> None:
    points = tuple(
        SweepPoint(c, estimate(kl), estimate(gold), estimate(gold - 0.55), below, run="loose", others=("no texts",))
        for c, kl, gold, below in ((0.001, 20, 0.51, estimate(-0.2)), (0.1, 2, 0.71, None))
    )
    changes = {"gold": estimate(0.1), "accuracy": estimate(0.05)}
    lever = Lever("Label <noise>", "sharpness", tuple(LeverPoint(at, estimate(0.6), estimate(0.6)) for at in ("1", "14")), changes, 64)
    effect = AccuracyEffect((("Label <noise>", "1", estimate(0.6), estimate(0.6)),), estimate(0.1), 0.8)
    data = replace(
        controlled(NULL, replace(LONG, variant="sft")), sweep=KLSweep("gold", points, None, "SFT", "Each point is one run."),
        levers=Levers((lever,), effect),
    )  # fmt: skip
    page = render(part_of_sample(controls=data.controls, sweep=data.sweep, levers=data.levers))
    for anchor in ("kl-strength", "levers", "controls"):
        assert f'<section id="{anchor}">' in page
        assert f'href="#{anchor}"' in page
    assert "Too low goes off the rails: at 0.001 it is" in page
    assert '<th scope="row">0.001<small class="wrap">loose: no texts</small></th>' in page
    assert "Label &lt;noise&gt;" in page
    assert "<noise>" not in page
    assert "Null answer" in page
    plain = render(part_of_sample())
    assert not [anchor for anchor in ("kl-strength", "levers", "controls") if f'id="{anchor}"' in plain]

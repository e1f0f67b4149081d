"""What training lost, on the report's page: changes against each run's start, differences between runs, and the chart."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from palate.data.jsonl import write_rows
from palate.evaluation import report_sections
from palate.evaluation.intervals import paired_share_difference
from palate.evaluation.report import Training, TrainingPoint, TrainingRun, render
from palate.evaluation.report.tax_section import tax_takeaway
from palate.evaluation.report.training_chart import training_chart, training_height
from palate.evaluation.tax_figures import tax_rows
from tests.unit.evaluation.sample_report import part_of_sample, sample_report


def unit(measure: str, name: str, start: float, end: float, weight: float = 1.0) -> dict[str, Any]:
    return {"measure": measure, "name": name, "cluster": None, "weight": weight, "start": start, "end": end}


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, str]:
    """PPO forgets six of eight sums and a nat per token; PPO-ptx forgets nothing of them; a third run measured nothing."""
    sums = [(1.0, 0.0)] * 6 + [(1.0, 1.0)] * 2
    texts = [(20.0 + k, 32.0 + 2 * k) for k in range(8)]
    plain = [unit("text_nll", str(k), *ends, weight=10.0) for k, ends in enumerate(texts)]
    plain += [unit("sums", f"s{k}", *ends) for k, ends in enumerate(sums)]
    mixed = [unit("text_nll", str(k), start, start + 0.1 * k, weight=10.0) for k, (start, _) in enumerate(texts)]
    mixed += [unit("sums", f"s{k}", 1.0, 1.0) for k in range(8)]
    for name, rows in (("ppo", plain), ("ptx", mixed)):
        (tmp_path / name).mkdir()
        write_rows(tmp_path / name / "tax.jsonl", rows[::-1] if name == "ptx" else rows)
    return {name: str(tmp_path / place) for name, place in (("PPO", "ppo"), ("PPO-ptx", "ptx"), ("other", "none"))}


def test_runs_are_compared_with_their_starts_and_with_the_first_run_on_the_same_units(runs: dict[str, str]) -> None:
    texts, sums = tax_rows(runs)
    assert (texts.title, texts.is_loss, sums.title, sums.is_loss) == ("loss on texts, nats per token", True, "sums", False)
    assert set(texts.changes) == {"PPO", "PPO-ptx"}
    assert texts.changes["PPO"].value == pytest.approx(sum(12 + k for k in range(8)) / 80)
    assert texts.versus_first["PPO-ptx"].value == pytest.approx(sum(0.1 * k - 12 - k for k in range(8)) / 80)
    assert sums.changes["PPO"] == paired_share_difference([0.0] * 6 + [1.0] * 2, [1.0] * 8)
    assert sums.versus_first["PPO-ptx"].value == pytest.approx(0.75)
    assert (sums.first, "PPO" in sums.versus_first) == ("PPO", False)


def test_the_page_says_what_was_lost_and_what_the_other_run_keeps(runs: dict[str, str]) -> None:
    report = replace(sample_report(), tax=tax_rows(runs))
    said = tax_takeaway(report)
    start, against = said.replace("\u2212", "-").split(". Against ")
    assert re.search(r"PPO changed the loss on texts by \+1.550 nats per token and sums by -0.750;", start)
    assert re.search(r"PPO-ptx changed the loss on texts by \+0.035 nats per token$", start)
    assert re.fullmatch(r"PPO, PPO-ptx changed the loss on texts by -1.515 nats per token and sums by \+0.750\.", against)
    page = render(part_of_sample(tax=report.tax))
    assert "During training" in page
    assert page.count("PPO-ptx, less PPO") == 3
    assert "During training" not in render(part_of_sample())
    assert tax_takeaway(replace(report, tax=())) == ""
    still = replace(report, tax=tuple(replace(row, changes={"PPO": row.changes["PPO-ptx"]}, versus_first={}) for row in report.tax[1:]))
    assert "PPO shows no measurable change" in tax_takeaway(still)


def test_changes_are_drawn_against_the_kl_where_they_were_measured(tmp_path: Path) -> None:
    rows = [
        {"step": k, "online/score/mean": 0.1 * k, "online/kl/mean": float(k), "online/kl_coef/value": 0.1, "online/length/mean": 9.0}
        | ({"tax/text_nll_change/mean": 0.2 * k, "tax/text_nll_change/se": 0.05, "tax/sums_change/mean": -0.1 * k} if k % 2 == 0 else {})
        for k in range(4)
    ]
    write_rows(tmp_path / "metrics.jsonl", rows)
    (tmp_path / "run.json").write_text('{"config": {"prompts_per_iteration": 2, "samples_per_prompt": 2}}')
    training = report_sections.training_of({"PPO": str(tmp_path)}, "PPO", None, {})
    assert [point.tax for point in training.runs[0].points] == [
        {"text_nll": (0.0, 0.05), "sums": (0.0, None)}, {}, {"text_nll": (0.4, 0.05), "sums": (-0.2, None)}, {},
    ]  # fmt: skip
    report = replace(sample_report(), training=training)
    chart = training_chart(report)
    assert chart is not None
    without = replace(
        report, training=Training((TrainingRun("PPO", 0.1, (TrainingPoint(0, 0.0, 0.0), TrainingPoint(1, 1.0, 0.1))),), "PPO")
    )
    assert training_height(report) == pytest.approx(training_height(without) + 2 * 1.9)
    assert "Loss on texts" in chart.wide
    assert "Sums" in chart.wide

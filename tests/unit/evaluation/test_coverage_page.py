"""The page of `palate coverage`: its figures are those of the report, and nothing given is markup."""

from dataclasses import replace
from pathlib import Path

import pytest

from palate.agreement.estimates import share
from palate.cli import main
from palate.evaluation.coverage.coverage_figures import NOT_KNOWN
from palate.evaluation.coverage.coverage_report import CoverageReport, coverage, read_deployment, read_judged
from palate.evaluation.report.coverage_page import cluster_row, coverage_tiles, render_coverage, share_chart
from tests.unit.evaluation.test_coverage import asked, judged_file, prompts


@pytest.fixture
def report(tmp_path: Path) -> CoverageReport:
    """A deployment of three kinds of prompts, of which one was not judged."""
    judged = read_judged(judged_file(tmp_path, prompts(1, 80, ("cook", "code")), 1.0, 1.0), None)
    return coverage(judged, read_deployment(asked(tmp_path, prompts(0, 60))))[0]


def test_the_page_leads_with_the_sentence_and_names_holes_with_examples(report: CoverageReport) -> None:
    page = render_coverage(report)
    assert f">{report.sentence}</h1>" in page
    hole = report.holes[0]
    assert f'<h3>{hole.name} <mark class="bad">hole</mark></h3>' in page
    assert all(f'<p class="ask">{text}</p>' in page for text in (*hole.examples, *report.unlike_examples))
    assert "Collect here next" not in page
    assert page == render_coverage(report)


def test_a_row_has_the_figures_of_its_cluster(report: CoverageReport) -> None:
    one = report.clusters[-1]
    row = cluster_row(one, has_reward=False)
    assert (row.name, row.reach, row.mark) == (one.name, "reached", "good")
    assert row.cells[0][:2] == ("Prompts", str(one.prompts))
    assert row.cells[1][:2] == ("Judged prompts", str(one.judged_prompts))
    assert row.cells[2][:2] == ("Judgments", str(2 * one.judged_prompts))
    assert row.cells[3][:2] == ("Agreement", "100 %")
    assert len(row.cells) == 5
    tested = replace(one, error=share(6, 20), expected_error=0.25)
    cells = cluster_row(tested, has_reward=True).cells[5:]
    assert [cell[:2] for cell in cells] == [("Error", "30 %"), ("Expected", "0.250"), ("Spread", "not known")]
    assert cluster_row(replace(one, agreement=NOT_KNOWN), has_reward=False).cells[3] == ("Agreement", "not known", "")


def test_the_chart_says_both_shares_of_each_cluster(report: CoverageReport) -> None:
    chart = share_chart(report)
    assert chart is not None
    hole = report.holes[0]
    assert f"{hole.name}: {100 * hole.share.value:.0f} %" in chart.alt[0:400].replace("Share of prompts by cluster. ", "").lower()
    assert "0 % (0 to 2 %) of the judged prompts" in chart.alt
    assert share_chart(replace(report, clusters=())) is None
    assert share_chart(replace(report, whole=replace(report.whole, judged_prompts=0))) is None


def test_tiles_count_the_prompts_in_holes(report: CoverageReport) -> None:
    missed = sum(one.prompts for one in report.holes)
    first, second, third = coverage_tiles(report)
    assert first.value == f"{100 * missed / 180:.0f} %"
    assert first.detail == f"{missed} of 180, {len(report.holes)} of {len(report.clusters)} clusters"
    assert second.value == f"{100 * report.whole.unlike.value:.0f} %"
    assert (third.value, third.detail) == ("320", "on 160 prompts; 0 prompts were judged themselves")
    tested = replace(report, whole=replace(report.whole, error=share(6, 20), expected_error=0.25, unlike=NOT_KNOWN))
    assert [tile.value for tile in coverage_tiles(tested)][1:] == ["not known", "320", "30 %"]


def test_texts_are_shown_and_not_run(report: CoverageReport) -> None:
    bad = "<script>alert(1)</script> & $x$"
    clusters = (replace(report.clusters[0], name=bad, examples=(bad,)), *report.clusters[1:])
    page = render_coverage(replace(report, clusters=clusters, unlike_examples=(bad,), left_out={bad: 2}), [bad])
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt; &amp; $x$") >= 6


def test_the_command_writes_the_page_with_what_to_collect_next(tmp_path: Path) -> None:
    preferences, deployment = judged_file(tmp_path, prompts(1, 80, ("cook", "code"))), asked(tmp_path, prompts(0, 60))
    out = tmp_path / "pages" / "coverage.html"
    assert main(["coverage", str(preferences), "--prompts", str(deployment), "--page", str(out), "--count", "23"]) == 0
    page = out.read_text(encoding="utf-8")
    assert page.count("<li>") == page.split("Collect here next")[0].count("<li>") + 20
    assert "3 more follow, which <code>--out</code> writes too" in page
    assert not (tmp_path / "next.jsonl").exists()

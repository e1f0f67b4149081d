"""The page of `palate coverage`: which prompts the judgments reach, as one string of HTML. Every string is escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from palate.agreement.estimates import Estimate, share
from palate.evaluation.coverage.coverage_figures import ClusterCoverage
from palate.evaluation.coverage.coverage_report import CoverageReport
from palate.evaluation.report.dot_charts import FULL, NARROW, drawn, row_height, ticks
from palate.evaluation.report.formatting import number, percent, percent_interval, sentence, thousands, wrapped
from palate.evaluation.report.page_template import rendered_page
from palate.evaluation.report.report_page import drawing
from palate.evaluation.report.svg import COLOURS, INK, Chart, figure, heading, tidy
from palate.evaluation.report.tiles import Tile

JUDGED, ASKED = COLOURS["base"], COLOURS["online"]
MARKS = {"hole": "bad", "partly": "trick", "thin": "trick", "reached": "good"}
"""Classes of the page by what a cluster is."""
LISTED = 20
"""Prompts to collect next that the page lists, at most."""
UNKNOWN = "not known"


@dataclass(frozen=True)
class ClusterRow:
    """A row of the table: one cluster, or all prompts."""

    name: str
    reach: str
    mark: str
    cells: tuple[tuple[str, str, str], ...]
    """Title of the column, figure, and what stands below it."""


def render_coverage(report: CoverageReport, collected: Sequence[str] = ()) -> str:
    """The page as one string. `collected` are the prompts to collect judgments on next; the same report gives the same bytes."""
    has_reward = bool(report.models)
    values = {
        "report": report,
        "tiles": coverage_tiles(report),
        "chart": drawing(share_chart(report)),
        "rows": [cluster_row(one, has_reward=has_reward) for one in (*report.clusters, report.whole)],
        "examples": [(one, MARKS[one.reach]) for one in report.clusters if one.reach != "reached" and one.examples],
        "collected": list(collected[:LISTED]),
        "left": max(len(collected) - LISTED, 0),
    }
    return rendered_page("coverage.html", values)


def coverage_tiles(report: CoverageReport) -> list[Tile]:
    """The tiles at the top of the page."""
    whole = report.whole
    missed = sum(one.prompts for one in report.holes)
    holes = f"{len(report.holes)} of {len(report.clusters)} clusters" if report.clusters else "too few prompts for clusters"
    rows = [
        Tile(percent(missed / whole.prompts), "of the prompts lie in holes", f"{thousands(missed)} of {thousands(whole.prompts)}, {holes}")
    ]
    unlike = f"{percent_interval(whole.unlike)}; 5 % would be expected" if whole.unlike.n else "it takes 60 judged prompts"
    rows.append(Tile(percent(whole.unlike.value) if whole.unlike.n else UNKNOWN, "are unlike every judged prompt", unlike))
    judged = f"on {thousands(whole.judged_prompts)} prompts; {thousands(report.already_judged)} prompts were judged themselves"
    rows.append(Tile(thousands(whole.judgments), "judgments", judged))
    if whole.error.n:
        detail = f"95 %: {percent_interval(whole.error)}, {thousands(whole.error.n)} prompts; it expects {percent(whole.expected_error)}"
        rows.append(Tile(percent(whole.error.value), "of held-out votes are against the reward model", detail))
    return rows


def share_chart(report: CoverageReport) -> Chart | None:
    """Return the share of the deployment's prompts and of the judged ones, a row per cluster; None where there is nothing to compare."""
    judged = report.whole.judged_prompts
    if not report.clusters or not judged:
        return None
    rows = [(one, one.share, share(one.judged_prompts, judged)) for one in report.clusters]
    top = max(estimate.high for _, *both in rows for estimate in both)
    legend = "red: deployment, grey: judged"

    def draw(inches: float) -> Figure:
        width = 18 if inches <= NARROW else 40
        height = 2 * row_height([one.name for one, *_ in rows], width)
        chart = figure(inches, height * len(rows) + 0.75)
        axes = chart.subplots()
        tidy(axes)
        heading(axes, "Share of prompts", legend if inches > NARROW else "")
        axes.set_xlabel("" if inches > NARROW else legend, fontsize=8.5)
        axes.set_xlim(0, top * 1.12)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_yticks(range(len(rows)), [wrapped(one.name, width) for one, *_ in rows])
        places = ticks(0, top)
        axes.set_xticks(places, [percent(place) for place in places])
        for place, (_, *both) in enumerate(rows):
            axes.get_yticklabels()[place].set_color(INK)
            for one, colour, shift in zip(both, (ASKED, JUDGED), (-0.17, 0.17), strict=True):
                axes.plot([one.low, one.high], [place + shift] * 2, color=colour, linewidth=6, alpha=0.35, solid_capstyle="butt")
                axes.plot([one.value], [place + shift], "o", color=colour, markersize=5, markeredgewidth=0)
                beside = (one.high + 0.012 * top, place + shift)
                axes.text(*beside, percent(one.value), color=colour, ha="left", va="center", fontsize=8.5, fontweight="bold")
        return chart

    alt = "; ".join(
        f"{one.name}: {percent(asked.value)} ({percent_interval(asked)}) of the deployment, {percent(known.value)} "
        f"({percent_interval(known)}) of the judged prompts"
        for one, asked, known in rows
    )
    return drawn(draw, "coverage", f"Share of prompts by cluster. {sentence(alt)}.", FULL)


def cluster_row(one: ClusterCoverage, *, has_reward: bool) -> ClusterRow:
    """Return the row of a cluster, with the reward model's figures where there is one."""
    cells = [
        ("Prompts", thousands(one.prompts), percent(one.share.value)),
        ("Judged prompts", thousands(one.judged_prompts), ""),
        ("Judgments", thousands(one.judgments), ""),
        ("Agreement", *_share(one.agreement)),
        ("Unlike", *_share(one.unlike)),
    ]
    if has_reward:
        cells += [("Error", *_share(one.error)), ("Expected", _number(one.expected_error), ""), ("Spread", _number(one.spread), "")]
    return ClusterRow(one.name, one.reach, MARKS[one.reach], tuple(cells))


def _share(estimate: Estimate) -> tuple[str, str]:
    return (percent(estimate.value), f"{percent_interval(estimate)}, n = {thousands(estimate.n)}") if estimate.n else (UNKNOWN, "")


def _number(value: float) -> str:
    return UNKNOWN if math.isnan(value) else number(value, 3)

"""The charts of dots and bands: a row per model and a panel per figure. `takeaways` writes the sentences around them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from palate.evaluation.intervals import Estimate
from palate.evaluation.report.formatting import interval, lines_of, number, percent, percent_interval, sentence, wrapped
from palate.evaluation.report.model_colours import model_colours
from palate.evaluation.report.records import Better, Eval
from palate.evaluation.report.report_data import ReportData
from palate.evaluation.report.svg import COLOURS, INK, MUTED, RULE, Chart, figure, heading, inline, style, tidy

HALF, FULL, NARROW = 5.4, 11.0, 3.7
"""Widths in inches: half a page, a whole page, a telephone."""

ROW = 0.26
"""Height of a row of dots in inches."""


def row_height(labels: Sequence[str], width: int = 18) -> float:
    """The height of a row in inches: labels of several lines of `width` characters need more."""
    return ROW + 0.12 * (lines_of(wrapped(label, width) for label in labels) - 1)


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel of dots: a title, an estimate per row, the direction that is good, and whether figures are percentages."""

    title: str
    values: tuple[Estimate | None, ...]
    better: Better | None = None
    percentages: bool = False
    line: float | None = None
    """Where the dashed line of comparison stands: the reference's value, or one half for win rates."""


@dataclass(frozen=True, slots=True)
class DotRow:
    """A row of a dot chart: its label and its colour."""

    label: str
    colour: str


def drawn(draw: Callable[[float], Figure], name: str, alt: str, width: float) -> Chart:
    """The chart drawn at `width` and at a telephone's width."""
    with style():
        return Chart(inline(draw(width), f"{name}-w"), inline(draw(NARROW), f"{name}-n"), alt)


def dot_chart(
    rows: Sequence[DotRow], panels: Sequence[Panel], name: str, *, width: float, columns: int, limits: tuple[float, float] | None
) -> Chart:
    """Return dots with 95 % intervals, a row per model and a panel per figure. `limits` None lets each panel have its own range."""

    def draw(inches: float) -> Figure:
        across = min(len(panels), columns if inches > NARROW else 1)
        down = math.ceil(len(panels) / across)
        titles = 0.16 * (lines_of(wrapped(panel.title) for panel in panels) - 1)
        drawing = figure(inches, down * (row_height([row.label for row in rows]) * len(rows) + 0.62 + titles))
        grid = drawing.subplots(down, across, squeeze=False)
        for place, axes in enumerate(grid.flat):
            if place >= len(panels):
                axes.set_visible(False)
                continue
            _dots(axes, rows, panels[place], limits)
            if place % across:
                axes.set_yticklabels([])
        return drawing

    return drawn(draw, name, _alt(rows, panels), width)


def _dots(axes: Axes, rows: Sequence[DotRow], panel: Panel, limits: tuple[float, float] | None) -> None:
    """One panel: dot, interval, and the value in figures at the right edge."""
    note = {"higher": "higher is better", "lower": "lower is better", None: ""}[panel.better]
    heading(axes, wrapped(panel.title), note)
    tidy(axes)
    low, high = limits or span([panel.values])
    reach = high - low
    room = 0.22 * reach if axes.get_position().width > 0.4 else 0.36 * reach
    axes.set_xlim(low, high + room)
    axes.set_ylim(len(rows) - 0.45, -0.6)
    axes.set_yticks(range(len(rows)), [wrapped(row.label, 18) for row in rows])
    places = ticks(low, high)
    axes.set_xticks(places, [percent(t) if panel.percentages else number(t, decimals(places)) for t in places])
    if panel.line is not None:
        axes.axvline(panel.line, color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
    for place, (row, value) in enumerate(zip(rows, panel.values, strict=True)):
        axes.get_yticklabels()[place].set_color(INK)
        if value is None:
            continue
        colour = row.colour
        axes.plot([value.low, value.high], [place, place], color=colour, linewidth=8, alpha=0.36, solid_capstyle="butt", zorder=2)
        axes.plot([value.value], [place], "o", color=colour, markersize=4.4, zorder=3, markeredgewidth=0)
        text = percent(value.value) if panel.percentages else number(value.value)
        axes.text(high + room, place, text, color=colour, ha="right", va="center", fontsize=9, fontweight="bold")


def span(groups: Sequence[Sequence[Estimate | None]]) -> tuple[float, float]:
    """A range that holds every interval, with a little air and never narrower than a tenth."""
    values = [value for group in groups for value in group if value is not None]
    ends = [end for value in values for end in (value.low, value.value, value.high) if not math.isnan(end)]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    air = max(0.06 * (high - low), (0.1 - (high - low)) / 2, 1e-6)
    return low - air, high + air


def ticks(low: float, high: float) -> list[float]:
    """Two to five round positions inside the range."""
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 10) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def decimals(places: Sequence[float]) -> int:
    """The fewest decimals that write every one of `places` exactly, at most three."""
    return next((digits for digits in range(3) if all(abs(round(t, digits) - t) < 1e-9 for t in places)), 3)


def _alt(rows: Sequence[DotRow], panels: Sequence[Panel]) -> str:
    """Every value and interval in words."""
    parts = []
    for panel in panels:
        figures = [
            f"{row.label} {percent(v.value)} ({percent_interval(v)})"
            if panel.percentages
            else f"{row.label} {number(v.value)} ({interval(v)})"
            for row, v in zip(rows, panel.values, strict=True)
            if v is not None
        ]
        parts.append(f"{panel.title}: {', '.join(figures)}")
    return sentence(". ".join(parts)) + "."


def rows_of(report: ReportData, keys: Sequence[str]) -> list[DotRow]:
    """Rows for the variants with these keys, in the report's order of variants."""
    colours = model_colours(report.variants)
    return [DotRow(variant.name, COLOURS[colours[variant.key]]) for variant in report.variants if variant.key in keys]


def gold_chart(report: ReportData, width: float = HALF, beside: float = 0.0) -> Chart | None:
    """Gold by model. The overall dimension is large; the others stand below on one common range, so that they can be compared.

    `beside` is the height in inches of the chart beside it. Rows stand up to 1.7 times as far apart to reach that height.
    """
    if report.gold is None:
        return None
    keys = [v.key for v in report.variants if any(s.variant == v.key for s in report.gold.scores)]
    rows = rows_of(report, keys)
    estimates = {(score.variant, score.dimension): score.estimate for score in report.gold.scores}
    panels = []
    for dimension in [report.gold.overall, *(name for name in report.gold.dimensions if name != report.gold.overall)]:
        base = estimates.get((report.reference, dimension))
        values = tuple(estimates.get((key, dimension)) for key in keys)
        panels.append(Panel(sentence(dimension), values, line=base.value if base else None))
    lead, others = panels[0], panels[1:]
    common = span([panel.values for panel in others]) if others else None

    def draw(inches: float) -> Figure:
        across = min(len(others), 3) if inches > NARROW else 1
        down = math.ceil(len(others) / across) if others else 0
        least = 1.1 * ROW * len(rows)
        reached = (beside - 0.72 - 0.62 * down) / (1 + 0.85 * down) if inches > NARROW else least
        height = min(max(least, reached), 1.7 * least)
        drawing = figure(inches, height + 0.72 + down * (0.85 * height + 0.62))
        grid = drawing.add_gridspec(1 + down, max(across, 1), height_ratios=[1.12, *([1.0] * down)])
        _dots(drawing.add_subplot(grid[0, :]), rows, lead, span([lead.values]))
        for place, panel in enumerate(others):
            axes = drawing.add_subplot(grid[1 + place // across, place % across])
            _dots(axes, rows, panel, common)
            if place % across:
                axes.set_yticklabels([])
        return drawing

    return drawn(draw, "gold", _alt(rows, panels), width)


def win_chart(report: ReportData, width: float = HALF) -> Chart | None:
    """Win rates against the reference, with the line of an even match."""
    rows = [row for row in (report.win_rates.rows if report.win_rates else ()) if row.opponent == report.reference]
    if not rows:
        return None
    estimates = {row.variant: row.estimate for row in rows}
    keys = [v.key for v in report.variants if v.key in estimates]
    title = f"Preferred to {report.variant(report.reference).name}"
    panel = Panel(title, tuple(estimates[key] for key in keys), "higher", percentages=True, line=0.5)
    low, high = span([panel.values])
    return dot_chart(rows_of(report, keys), [panel], "wins", width=width, columns=1, limits=(min(low, 0.45), max(high, 0.55)))


def eval_chart(report: ReportData, evals: Sequence[Eval], name: str) -> Chart | None:
    """One panel per eval, in percentages, each with its own range."""
    if not evals:
        return None
    keys = [v.key for v in report.variants if any(r.variant == v.key for item in evals for r in item.results)]
    panels = []
    for item in evals:
        estimates = {result.variant: result.estimate for result in item.results}
        base = estimates.get(report.reference)
        values = tuple(estimates.get(key) for key in keys)
        panels.append(Panel(sentence(item.name), values, item.better, percentages=True, line=base.value if base else None))
    return dot_chart(rows_of(report, keys), panels, name, width=FULL, columns=min(3, len(panels)), limits=None)


def exploit_chart(report: ReportData) -> Chart | None:
    """One panel per exploit: the share of answers that use it."""
    names = list(dict.fromkeys(row.exploit for row in report.exploits))
    if not names:
        return None
    shares = {(row.variant, row.exploit): row.share for row in report.exploits}
    keys = [v.key for v in report.variants if any(row.variant == v.key for row in report.exploits)]
    panels = []
    for exploit in names:
        base = shares.get((report.reference, exploit))
        values = tuple(shares.get((key, exploit)) for key in keys)
        panels.append(Panel(sentence(exploit), values, "lower", percentages=True, line=base.value if base else None))
    return dot_chart(rows_of(report, keys), panels, "exploits", width=FULL, columns=min(3, len(panels)), limits=None)


def length_chart(report: ReportData) -> Chart | None:
    """Spread of lengths (10th to 90th percentile), median and mean, a row per model."""
    if not report.lengths:
        return None
    by_key = {row.variant: row for row in report.lengths}
    colours = model_colours(report.variants)
    rows = [(v, by_key[v.key]) for v in report.variants if v.key in by_key]

    def draw(inches: float) -> Figure:
        drawing = figure(inches, row_height([v.name for v, _ in rows]) * len(rows) + 0.75)
        axes = drawing.subplots()
        tidy(axes)
        heading(axes, "Tokens per answer", "mean")
        top = max(row.p90 for _, row in rows)
        axes.set_xlim(0, top * 1.14)
        axes.set_ylim(len(rows) - 0.45, -0.6)
        axes.set_yticks(range(len(rows)), [wrapped(v.name, 18) for v, _ in rows])
        for place, (variant, row) in enumerate(rows):
            axes.get_yticklabels()[place].set_color(INK)
            colour = COLOURS[colours[variant.key]]
            axes.plot([row.p10, row.p90], [place, place], color=colour, linewidth=7, alpha=0.25, zorder=2)
            axes.plot([row.median], [place], "|", color=colour, markersize=11, markeredgewidth=2, zorder=3)
            axes.plot([row.mean.value], [place], "o", color=colour, markersize=5, zorder=4, markeredgewidth=0)
            axes.text(top * 1.13, place, number(row.mean.value, 0), color=colour, ha="right", va="center", fontweight="bold")
        return drawing

    words = "; ".join(
        f"{v.name} mean {number(r.mean.value, 0)}, 10th to 90th percentile {number(r.p10, 0)} to {number(r.p90, 0)}" for v, r in rows
    )
    return drawn(draw, "lengths", f"Lengths in tokens: {words}.", HALF)


def audit_chart(report: ReportData) -> Chart | None:
    """Differences between two groups of guests with their intervals around zero."""
    if not report.audit:
        return None
    rows = report.audit
    labels = [f"{report.variant(r.variant).name}: {r.first} / {r.second}" for r in rows]
    colours = model_colours(report.variants)
    low, high = span([[r.difference for r in rows]])
    reach = max(abs(low), abs(high))

    def draw(inches: float) -> Figure:
        drawing = figure(inches, row_height(labels, 30) * len(rows) + 0.7)
        axes = drawing.subplots()
        tidy(axes)
        axes.axvline(0, color=MUTED, linewidth=0.9)
        axes.set_xlim(-reach, reach)
        axes.set_ylim(len(rows) - 0.45, -0.6)
        axes.set_yticks(range(len(rows)), [wrapped(label, 30) for label in labels])
        for place, row in enumerate(rows):
            axes.get_yticklabels()[place].set_color(INK)
            colour = COLOURS[colours[row.variant]]
            axes.plot([row.difference.low, row.difference.high], [place, place], color=colour, linewidth=5, alpha=0.28)
            axes.plot([row.difference.value], [place], "o", color=colour, markersize=5, markeredgewidth=0)
        axes.set_xlabel("first group minus second group", fontsize=8)
        axes.tick_params(axis="x", colors=MUTED)
        axes.spines["bottom"].set_color(RULE)
        return drawing

    words = "; ".join(
        f"{label} {number(r.difference.value, 3)} ({interval(r.difference, 3)})" for label, r in zip(labels, rows, strict=True)
    )
    return drawn(draw, "audit", f"Differences between groups: {words}.", HALF)

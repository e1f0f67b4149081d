"""The charts of the reward model's accuracy and calibration, and of best-of-n."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator

from palate.evaluation.intervals import Z95
from palate.evaluation.report.dot_charts import FULL, HALF, NARROW, drawn
from palate.evaluation.report.formatting import number, percent, sentence, thousands, wrapped
from palate.evaluation.report.records import BestOfNPoint, RewardAccuracy
from palate.evaluation.report.report_data import ReportData
from palate.evaluation.report.svg import COLOURS, INK, MUTED, RULE, WASH, Chart, figure, heading, tidy
from palate.evaluation.report.takeaways import reward_floor

ACCENT = COLOURS["online"]


def accuracy_chart(report: ReportData, width: float = HALF) -> Chart | None:
    """Held-out accuracy by dimension, between its floors (chance, length, shuffled labels) and its ceiling."""
    card = report.reward_model
    if card is None or not card.rows:
        return None
    rows = card.rows

    def draw(inches: float) -> Figure:
        drawing = figure(inches, 0.68 * len(rows) + 0.8)
        axes = drawing.subplots()
        tidy(axes)
        ends = [
            v
            for r in rows
            for v in (r.accuracy.low, r.accuracy.high, r.longer_wins, r.shorter_wins, r.shuffled, r.ceiling)
            if v is not None
        ]
        axes.set_xlim(min(0.46, *ends) - 0.02, max(ends) + 0.05)
        axes.xaxis.set_major_locator(MultipleLocator(0.1))
        axes.set_ylim(len(rows) - 0.45, -0.7)
        axes.set_yticks(range(len(rows)), [wrapped(sentence(r.dimension), 18) for r in rows])
        axes.axvline(0.5, color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)))
        axes.text(0.5, -0.66, "chance", color=MUTED, fontsize=7.8, va="top", ha="center")
        axes.xaxis.set_major_formatter(lambda x, _: percent(x))
        for place, row in enumerate(rows):
            axes.get_yticklabels()[place].set_color(INK)
            _accuracy_row(axes, row, place)
        heading(axes, "Agrees with raters")
        if any(row.shuffled is not None for row in rows):
            axes.set_xlabel("cross: shuffled labels", fontsize=8)
        return drawing

    return drawn(draw, "accuracy", _accuracy_alt(rows), width)


def _accuracy_row(axes: Axes, row: RewardAccuracy, place: int) -> None:
    """Draw a band from floor to ceiling and the model's dot on it. Each mark carries its name and figure."""
    floor = reward_floor(row)
    if floor is not None and row.ceiling is not None:
        axes.plot([floor[1], row.ceiling], [place, place], color=WASH, linewidth=15, solid_capstyle="butt", zorder=1)
    if row.shuffled is not None:
        axes.plot([row.shuffled], [place], "x", color=MUTED, markersize=5, markeredgewidth=1.4, zorder=2)
    ends = ([(floor[1], f"\u201c{floor[0]}\u201d")] if floor else []) + ([(row.ceiling, "ceiling")] if row.ceiling is not None else [])
    for value, label in ends:
        side = "center" if len(ends) == 1 else "right" if value == min(at for at, _ in ends) else "left"  # apart, however near both are
        axes.plot([value, value], [place - 0.21, place + 0.21], color=MUTED, linewidth=1.6, zorder=2)
        axes.text(value, place + 0.37, f"{label} {percent(value)}", color=MUTED, fontsize=7.8, ha=side, va="center")
    axes.plot([row.accuracy.low, row.accuracy.high], [place, place], color=ACCENT, linewidth=6, alpha=0.35, solid_capstyle="butt", zorder=3)
    axes.plot([row.accuracy.value], [place], "o", color=ACCENT, markersize=7, zorder=4, markeredgewidth=0)
    axes.text(
        row.accuracy.value,
        place - 0.38,
        percent(row.accuracy.value),
        color=ACCENT,
        fontsize=9.5,
        fontweight="bold",
        ha="center",
        va="center",
    )


def _accuracy_alt(rows: Sequence[RewardAccuracy]) -> str:
    parts = []
    for row in rows:
        floor = reward_floor(row)
        text = f"{row.dimension}: model {percent(row.accuracy.value)}"
        text += f", {floor[0]} {percent(floor[1])}" if floor else ""
        text += f", ceiling {percent(row.ceiling)}" if row.ceiling is not None else ""
        parts.append(text)
    return sentence("; ".join(parts)) + "."


def calibration_chart(report: ReportData) -> Chart | None:
    """Observed share against stated probability, with the number of pairs in each bin below."""
    bins = report.reward_model.calibration if report.reward_model else ()
    if not bins:
        return None

    def draw(inches: float) -> Figure:
        drawing = figure(inches, 2.9)
        top, bottom = drawing.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        tidy(top, grid="both")
        heading(top, "Stated against observed", "dashed: perfect")
        top.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)))
        for item in bins:
            top.plot([item.predicted] * 2, [item.observed.low, item.observed.high], color=ACCENT, linewidth=5, alpha=0.28)
        top.plot(
            [b.predicted for b in bins],
            [b.observed.value for b in bins],
            "o-",
            color=ACCENT,
            linewidth=1.2,
            markersize=5.5,
            markeredgewidth=0,
        )
        top.set_ylabel("came true", fontsize=8.5)
        tidy(bottom, grid="y")
        bottom.bar(
            [(b.low + b.high) / 2 for b in bins], [b.observed.n for b in bins], width=[0.86 * (b.high - b.low) for b in bins], color=RULE
        )
        bottom.yaxis.set_major_locator(MaxNLocator(2, prune="lower"))  # its 0 would lie on the 0 % below
        bottom.set_ylabel("pairs", fontsize=8.5)
        bottom.set_xlabel("stated probability that this answer wins", fontsize=8.5)
        top.set_xlim(0, 1)
        top.set_ylim(0, 1)
        for axis in (top.xaxis, top.yaxis, bottom.xaxis):
            axis.set_major_formatter(lambda x, _: percent(x))
        return drawing

    words = "; ".join(f"stated {percent(b.predicted)}, observed {percent(b.observed.value)} of {thousands(b.observed.n)}" for b in bins)
    return drawn(draw, "calibration", f"Calibration: {words}.", HALF)


def best_of_n_chart(report: ReportData) -> Chart | None:
    """Expected proxy and gold of the best of n samples against n on a doubling axis."""
    if report.best_of_n is None or len(report.best_of_n.points) < 2:
        return None
    points = report.best_of_n.points
    panels = [("What the reward model says", False)] + ([("What is true", True)] if all(p.gold is not None for p in points) else [])

    def draw(inches: float) -> Figure:
        across = len(panels) if inches > NARROW else 1
        down = len(panels) // across
        drawing = figure(inches, 2.35 * down)
        for axes, (title, of_gold) in zip(drawing.subplots(down, across, squeeze=False).flat, panels, strict=True):
            _best_of_n_panel(axes, points, title, of_gold=of_gold)
        return drawing

    words = "; ".join(f"n {p.n}: proxy {number(p.proxy)}" + (f", gold {number(p.gold)}" if p.gold is not None else "") for p in points)
    return drawn(draw, "best-of-n", f"Best of n: {words}.", FULL)


def _best_of_n_panel(axes: Axes, points: Sequence[BestOfNPoint], title: str, *, of_gold: bool) -> None:
    colour = COLOURS["search"]
    tidy(axes, grid="y")
    heading(axes, title)
    y = [(p.gold or 0.0) if of_gold else p.proxy for p in points]
    x = [p.n for p in points]
    if of_gold:
        half = [Z95 * (p.gold_se or 0.0) for p in points]
        axes.fill_between(
            x,
            [a - h for a, h in zip(y, half, strict=True)],
            [a + h for a, h in zip(y, half, strict=True)],
            color=colour,
            alpha=0.16,
            linewidth=0,
        )
    axes.plot(x, y, "o-", color=colour, linewidth=2, markersize=4.5, markeredgewidth=0)
    axes.annotate(
        number(y[-1]), (x[-1], y[-1]), xytext=(0, 9), textcoords="offset points", ha="center", color=colour, fontsize=9, fontweight="bold"
    )
    axes.set_xscale("log", base=2)
    axes.set_xticks(x, [str(n) for n in x])
    axes.minorticks_off()
    axes.set_xlabel("samples per prompt; the reward model's best is served", fontsize=8.5)
    axes.margins(x=0.05, y=0.18)

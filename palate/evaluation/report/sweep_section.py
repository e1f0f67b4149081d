"""The section of the report on a sweep over KL strengths: one frontier, and a sentence that the intervals test."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from palate.evaluation.intervals import Estimate
from palate.evaluation.report.dot_charts import FULL, NARROW, drawn
from palate.evaluation.report.formatting import gain, interval, listed, number, sentence
from palate.evaluation.report.lever_records import KLSweep, SweepPoint
from palate.evaluation.report.report_data import ReportData
from palate.evaluation.report.svg import COLOURS, MUTED, Chart, figure, heading, tidy


def coefficient(value: float) -> str:
    """A KL coefficient without zeros at its end."""
    return f"{value:g}"


def sweep_takeaway(report: ReportData) -> str:
    """Say which coefficient is best, whether less of it goes off the rails, and whether more of it changes nothing."""
    sweep = report.sweep
    if sweep is None or len(sweep.points) < 2:
        return ""
    best, low, high = sweep.best, sweep.points[0], sweep.points[-1]
    text = f"{sentence(sweep.measure)} is highest at the coefficient {coefficient(best.coefficient)}: {number(best.value.value)}"
    text += f" ({interval(best.value)})"
    text += f", {gain(best.over_start)} against {sweep.start_name}." if best.over_start is not None else "."
    return " ".join(part for part in (text, _too_low(sweep, low), _scores(low), _too_high(sweep, high), _not_alone(sweep)) if part)


def _too_low(sweep: KLSweep, point: SweepPoint) -> str:
    """Say what the smallest coefficient did."""
    at = coefficient(point.coefficient)
    if point.below_best is None:
        return f"{at} is the smallest one, so none of these is shown to be too low."
    if not point.below_best.high < 0:
        far = f"at \u221aKL {number(point.sqrt_kl, 1)}"
        return f"{at} is not measurably worse ({gain(point.below_best)}), {far}: no harm of a low price is shown."
    over = point.over_start
    where = "" if over is None else _beside_start(over, sweep.start_name)
    far = f"at \u221aKL {number(point.sqrt_kl, 1)}"
    return f"Too low goes off the rails: at {at} it is {number(point.value.value)} ({gain(point.below_best)}), {far}{where}."


def _scores(point: SweepPoint) -> str:
    """Say what the reward models make of the smallest coefficient beside the best one, and whether they show its loss."""
    scores = (("trained-on score", point.proxy), ("held-out score", point.held_out))
    known = [(name, score.over_best) for name, score in scores if score is not None and score.over_best is not None]
    if not known:
        return ""
    text = f"There {', and '.join(f'the {name} is {_beside(over)}' for name, over in known)}"
    has_lost = point.below_best is not None and point.below_best.high < 0
    return f"{text}{': no score shows the loss' if has_lost and all(over.low > 0 for _, over in known) else ''}."


def _beside(over: Estimate) -> str:
    side = "not measurably apart" if not over.excludes_zero else "higher" if over.value > 0 else "lower"
    return f"{side} ({gain(over)})"


def _not_alone(sweep: KLSweep) -> str:
    """Say which runs differ from the best one in more than the coefficient, so that it is not the only cause."""
    runs = [f"the one at {coefficient(point.coefficient)} has {listed(point.others)}" for point in sweep.points if point.others]
    if not runs:
        return ""
    return f"The coefficient may not be the only cause: unlike the run at {coefficient(sweep.best.coefficient)}, {'; '.join(runs)}."


def _too_high(sweep: KLSweep, point: SweepPoint) -> str:
    """Say what the largest coefficient did."""
    at, over = coefficient(point.coefficient), point.over_start
    if point.below_best is None:
        return f"{at} is the largest one, so none of these is shown to be too high."
    if not point.below_best.high < 0:
        return f"{at} is not measurably worse ({gain(point.below_best)}): no harm of a high price is shown."
    if over is None or over.excludes_zero:
        where = "" if over is None else _beside_start(over, sweep.start_name)
        rest = " and does not stop it" if over is not None and over.low > 0 else ""
        return f"A high price costs gain{rest}: at {at} it is {number(point.value.value)} ({gain(point.below_best)}){where}."
    return f"Too high changes nothing: at {at} the policy is not measurably apart from {sweep.start_name} ({gain(over)})."


def _beside_start(over: Estimate, name: str) -> str:
    if not over.excludes_zero:
        return f" and not measurably apart from {name}"
    return f" and {'above' if over.value > 0 else 'below'} {name} ({gain(over)})"


def sweep_chart(report: ReportData) -> Chart | None:
    """The measure against sqrt(KL), a point per coefficient with its interval; beside it what reward models say at the same points."""
    sweep = report.sweep
    if sweep is None:
        return None
    note = "what is true" if sweep.measure == "gold" else "of a model that trained no run"
    panels = [(sentence(sweep.measure), note, [point.value for point in sweep.points], sweep.start)]
    for title, words, scores, start in (
        ("Held-out score", "trained no run", [point.held_out for point in sweep.points], sweep.start_held_out),
        ("Trained-on score", "what training maximises", [point.proxy for point in sweep.points], sweep.start_proxy),
    ):
        known = [score.value for score in scores if score is not None]
        if len(known) == len(sweep.points):
            panels.append((title, words, known, start))

    def draw(inches: float) -> Figure:
        across = len(panels) if inches > NARROW else 1
        drawing = figure(inches, 2.9 * (len(panels) // across))
        for axes, panel in zip(drawing.subplots(len(panels) // across, across, squeeze=False).flat, panels, strict=True):
            _frontier(axes, sweep, *panel)
        return drawing

    words = "; ".join(_words(sweep.measure, point) for point in sweep.points)
    return drawn(draw, "sweep", f"Strengths of the KL penalty. {sentence(words)}.", FULL)


def _words(measure: str, point: SweepPoint) -> str:
    """Return the figures of a point in words."""
    text = f"coefficient {coefficient(point.coefficient)}{' (tuned)' if point.is_tuned else ''}: {measure} {number(point.value.value)} "
    text += f"({interval(point.value)}) at the square root of KL {number(point.sqrt_kl, 1)}"
    scores = (("held-out score", point.held_out), ("trained-on score", point.proxy))
    return text + "".join(f", {name} {number(score.value.value)}" for name, score in scores if score is not None)


def _frontier(axes: Axes, sweep: KLSweep, title: str, note: str, values: Sequence[Estimate], start: Estimate | None) -> None:
    """Draw one panel: a line from the largest coefficient to the smallest, each point with its interval and its coefficient."""
    colour = COLOURS["online"]
    tidy(axes, grid="y")
    heading(axes, title, note)
    places = [point.sqrt_kl for point in sweep.points]
    if start is not None:
        axes.axhline(start.value, color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
        axes.plot([0], [start.value], "o", color=MUTED, markersize=5.5, markeredgewidth=0, zorder=3)
        axes.annotate(
            sweep.start_name,
            (0, start.value),
            xytext=(0, -10),
            textcoords="offset points",
            ha="center",
            va="center",
            color=MUTED,
            fontsize=8.8,
        )
    axes.plot(places, [one.value for one in values], color=colour, linewidth=1.6, alpha=0.5, zorder=2)
    axes.vlines(places, [one.low for one in values], [one.high for one in values], color=colour, linewidth=5, alpha=0.28, zorder=3)
    axes.plot(places, [one.value for one in values], "o", color=colour, markersize=5.5, markeredgewidth=0, zorder=4)
    for place, point, one in zip(places, sweep.points, values, strict=True):
        if point.is_tuned:
            axes.plot([place], [one.value], "o", color=colour, markersize=11, markerfacecolor="none", markeredgewidth=1.4, zorder=4)
    reach = max(places) or 1.0
    for k, (point, value) in enumerate(zip(sweep.points, values, strict=True)):
        near = any(abs(places[k] - other) < 0.06 * reach for other in places[k + 1 :])
        axes.annotate(
            coefficient(point.coefficient) + (" tuned" if point.is_tuned else ""),
            (places[k], value.low if near else value.high), xytext=(0, -12 if near else 9),
            textcoords="offset points", ha="center", va="center", color=colour, fontsize=8.8, fontweight="bold",
        )  # fmt: skip
    axes.set_xlabel("\u221aKL to the start (nats)", fontsize=8.5)
    axes.set_xlim(-0.06 * reach, 1.08 * reach)
    axes.margins(y=0.2)

"""The section of the report on levers: a chart and a sentence for each, and gold against the accuracy of the reward models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from palate.evaluation.intervals import Estimate
from palate.evaluation.report.dot_charts import FULL, NARROW, drawn
from palate.evaluation.report.formatting import errors, gain, interval, listed, number, percent, sentence, signed, wrapped
from palate.evaluation.report.lever_records import AccuracyEffect, Lever
from palate.evaluation.report.report_data import ReportData
from palate.evaluation.report.svg import COLOURS, MUTED, Chart, figure, heading, tidy

LEVER_COLOURS = ("online", "direct", "search", "ablation", "rose", "blue")
"""Colours of the levers in the chart of all of them, in their order."""


SAME_SIGNS = 6
"""From so many differences of one sign on, the sign test excludes zero: 2 x 0.5^6 is 0.03."""


@dataclass(frozen=True, slots=True)
class LeverPanel:
    """One panel of a lever: its title, an estimate per setting, and a level to compare with."""

    title: str
    values: tuple[Estimate, ...]
    percentages: bool = False
    level: float | None = None
    level_name: str = ""


def levers_headline(report: ReportData) -> str:
    """Say in a sentence how far each lever moves gold from one end to the other, and which do not measurably move it; "" without levers."""
    levers = report.levers.levers
    if not levers:
        return ""
    moved = [one for one in levers if is_measurable(one.main_change)]
    still = [one.name.lower() for one in levers if not is_measurable(one.main_change)]
    clauses = [f"{one.name.lower()} by {signed(one.main_change.value)}{' on its region' if one.has_region else ''}" for one in moved]
    parts = [f"From one end to the other, gold moves with {listed(clauses)}."] if moved else []
    if still:
        parts.append(f"{sentence(listed(still))} {'does' if len(still) == 1 else 'do'} not measurably move it.")
    return " ".join(parts)


def lever_takeaway(lever: Lever) -> str:
    """Say what the lever did to the reward model and to gold between its first and its last setting."""
    ends = f"From {lever.points[0].at} to {lever.points[-1].at}"
    accuracy = lever.changes.get("accuracy")
    text = ends
    if accuracy is not None:
        moved = f"moves by {signed(100 * accuracy.value, 1)} points ({errors(accuracy)})"
        text += f", the reward model\u2019s accuracy {moved if accuracy.excludes_zero else 'does not measurably change'}"
        text += " and" if not lever.has_region else ""
    if not lever.has_region:
        return f"{text}{'' if accuracy is not None else ','} the policy\u2019s gold {_moves(lever.changes['gold'])}."
    text += "." if accuracy is not None else ","
    start = " On" if accuracy is not None else " on"
    inside, outside = lever.changes["inside"], lever.changes["outside"]
    return f"{text}{start} the region\u2019s prompts gold {_moves(inside)}, and on the others it {_moves(outside)}."


def is_measurable(change: Estimate) -> bool:
    """Whether the interval excludes zero; where all values are the same and there is no interval, the sign test decides."""
    return change.excludes_zero or (math.isnan(change.se) and change.value != 0 and change.n >= SAME_SIGNS)


def _moves(change: Estimate) -> str:
    if not is_measurable(change):
        return f"does not measurably change ({gain(change)})"
    return f"{'rises' if change.value > 0 else 'falls'} by {number(abs(change.value))} ({errors(change)})"


def accuracy_effect_takeaway(report: ReportData) -> str:
    """Say how gold goes with the accuracy of reward models, tested by the slope's interval; "" where it was not measured."""
    effect = report.levers.accuracy
    if effect is None:
        return ""
    values = [accuracy.value for _, _, accuracy, _ in effect.points]
    span = f"Between accuracies of {percent(min(values), 1)} and {percent(max(values), 1)}"
    ceiling = f" The ceiling with these raters is {percent(effect.ceiling, 1)}." if effect.ceiling is not None else ""
    if not effect.slope.excludes_zero:
        return f"{span}, a more accurate reward model does not measurably make a better policy.{ceiling}"
    word = "more" if effect.slope.value > 0 else "less"
    return f"{span}, ten points of accuracy go with {number(abs(effect.slope.value))} {word} gold ({interval(effect.slope)}).{ceiling}"


def lever_charts(report: ReportData) -> list[Chart]:
    """Return a chart per lever."""
    return [_lever_chart(report, lever, k) for k, lever in enumerate(report.levers.levers)]


def _lever_chart(report: ReportData, lever: Lever, place: int) -> Chart:
    panels = _panels(report, lever)
    labels = [point.at for point in lever.points]

    def draw(inches: float) -> Figure:
        across = len(panels) if inches > NARROW else 1
        down = len(panels) // across
        drawing = figure(inches, 2.45 * down)
        for axes, panel in zip(drawing.subplots(down, across, squeeze=False).flat, panels, strict=True):
            _lever_panel(axes, panel, labels, lever.setting, LEVER_COLOURS[place % len(LEVER_COLOURS)])
        return drawing

    words = "; ".join(f"{panel.title}: {_figures(panel, labels)}" for panel in panels)
    return drawn(draw, f"lever-{place}", f"{lever.name}. {sentence(words)}.", FULL)


def _panels(report: ReportData, lever: Lever) -> list[LeverPanel]:
    accuracies = [point.accuracy for point in lever.points if point.accuracy is not None]
    panels = []
    if len(accuracies) == len(lever.points):
        ceiling = None if report.levers.accuracy is None else report.levers.accuracy.ceiling
        panels.append(LeverPanel("Reward model right", tuple(accuracies), percentages=True, level=ceiling, level_name="ceiling"))
    if not lever.has_region:
        return [*panels, LeverPanel("Gold of the policy", tuple(point.gold for point in lever.points))]
    inside = tuple(point.inside for point in lever.points if point.inside is not None)
    outside = tuple(point.outside for point in lever.points if point.outside is not None)
    return [*panels, LeverPanel("Gold on the region", inside), LeverPanel("Gold elsewhere", outside)]


def _figures(panel: LeverPanel, labels: Sequence[str]) -> str:
    values = [percent(one.value, 1) if panel.percentages else number(one.value) for one in panel.values]
    return ", ".join(f"{at} {value} ({interval(one)})" for at, value, one in zip(labels, values, panel.values, strict=True))


def _lever_panel(axes: Axes, panel: LeverPanel, labels: Sequence[str], setting: str, colour: str) -> None:
    """Draw one panel: an equal step from each setting to the next, with intervals, and the figures of both ends."""
    hue, places = COLOURS[colour], range(len(labels))
    tidy(axes, grid="y")
    heading(axes, panel.title)
    if panel.level is not None:
        axes.axhline(panel.level, color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
        axes.annotate(
            f"{panel.level_name} {percent(panel.level)}", (0, panel.level), xycoords=("axes fraction", "data"), xytext=(2, 4),
            textcoords="offset points", ha="left", color=MUTED, fontsize=8,
        )  # fmt: skip
    values = [one.value for one in panel.values]
    axes.plot(places, values, color=hue, linewidth=1.6, alpha=0.5, zorder=2)
    axes.vlines(places, [one.low for one in panel.values], [one.high for one in panel.values], color=hue, linewidth=6, alpha=0.28, zorder=3)
    axes.plot(places, values, "o", color=hue, markersize=5.5, markeredgewidth=0, zorder=4)
    for k in (0, len(values) - 1):
        text = percent(values[k], 1) if panel.percentages else number(values[k])
        top = values[k] if math.isnan(panel.values[k].high) else panel.values[k].high
        axes.annotate(
            text, (k, top), xytext=(0, 6), textcoords="offset points", ha="center", va="bottom", color=hue, fontsize=9, fontweight="bold"
        )
    axes.set_xticks(list(places), [wrapped(label, 10) for label in labels])
    if panel.percentages:
        axes.yaxis.set_major_formatter(lambda y, _: percent(y))
    axes.set_xlabel(wrapped(setting, 44), fontsize=8.5)
    axes.set_xlim(-0.4, len(labels) - 0.6)
    axes.margins(y=0.2)


def accuracy_effect_chart(report: ReportData) -> Chart | None:
    """Gold of the policies against the accuracy of their reward models, each lever with its own colour."""
    effect = report.levers.accuracy
    if effect is None:
        return None
    colours = effect_colours(report)

    def draw(inches: float) -> Figure:
        drawing = figure(inches, 3.0)
        axes = drawing.subplots()
        tidy(axes, grid="both")
        heading(axes, "Gold against accuracy")
        for name, _, accuracy, gold in effect.points:
            hue = COLOURS[colours[name]]
            axes.plot([accuracy.low, accuracy.high], [gold.value] * 2, color=hue, linewidth=1.4, alpha=0.4, zorder=2)
            axes.plot([accuracy.value] * 2, [gold.low, gold.high], color=hue, linewidth=1.4, alpha=0.4, zorder=2)
            axes.plot([accuracy.value], [gold.value], "o", color=hue, markersize=6, markeredgewidth=0, zorder=3)
        axes.xaxis.set_major_formatter(lambda x, _: percent(x))
        axes.set_xlabel("reward model right on held-out judgments", fontsize=8.5)
        axes.margins(x=0.06, y=0.1)
        return drawing

    return drawn(draw, "accuracy-effect", _effect_alt(effect), FULL)


def effect_colours(report: ReportData) -> dict[str, str]:
    """Return the name of each lever's colour."""
    return {lever.name: LEVER_COLOURS[k % len(LEVER_COLOURS)] for k, lever in enumerate(report.levers.levers)}


def _effect_alt(effect: AccuracyEffect) -> str:
    words = "; ".join(
        f"{name} {at}: accuracy {percent(accuracy.value, 1)}, gold {number(gold.value)}" for name, at, accuracy, gold in effect.points
    )
    return f"Gold against the accuracy of reward models. {sentence(words)}."

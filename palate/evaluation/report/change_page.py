"""The page of a refresh: it turns the record into one string of HTML. Every string is escaped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from palate.agreement.curve import LearningCurve
from palate.evaluation.calibration import Bin
from palate.evaluation.intervals import share
from palate.evaluation.report import change as words
from palate.evaluation.report.change import HeldOutChange, RewardChange
from palate.evaluation.report.dot_charts import FULL, HALF, NARROW, drawn
from palate.evaluation.report.formatting import interval, number, percent, percent_interval, sentence, signed, thousands
from palate.evaluation.report.page_template import rendered_page
from palate.evaluation.report.report_page import drawing
from palate.evaluation.report.svg import COLOURS, INK, MUTED, Chart, figure, heading, tidy
from palate.evaluation.report.tiles import Tile

BEFORE, AFTER = COLOURS["base"], COLOURS["online"]


def render_change(change: RewardChange) -> str:
    """The page as one string; the same record gives the same bytes."""
    charts = {
        "accuracy": accuracy_chart(change.tests),
        "calibration": calibration_chart(change.tests),
        "curve": None if change.curve is None else curve_chart(change.curve, change.new),
    }
    say = {
        "headline": words.headline(change),
        "advice": words.advice(change),
        "scale": words.scale_sentence(change),
        "calibration": words.calibration_sentence(change),
        "curve": "" if change.curve is None else change.curve.sentence(),
    }
    chart = {name: drawing(one) for name, one in charts.items()}
    return rendered_page("change.html", {"change": change, "chart": chart, "say": say, "tiles": tiles(change)})


def tiles(change: RewardChange) -> list[Tile]:
    """The tiles at the top of the page."""
    rows = []
    for test in change.tests:
        detail = f"95 %: {signed(100 * test.change.low, 1)} to {signed(100 * test.change.high, 1)}, {thousands(test.after.n)} judgments"
        rows.append(Tile(f"{signed(100 * test.change.value, 1)}", f"points of accuracy on {test.name} judgments", detail))
    before, after = change.new.log_loss
    rows.append(Tile(number(after), "log loss on new judgments", f"{number(before)} before; a coin flip has 0.69"))
    best = change.best_changed / change.prompts if change.prompts else 0.0
    rows.append(Tile(percent(best), "of prompts have another best completion", f"correlation {number(change.correlation, 3)}"))
    return rows


def accuracy_chart(tests: Sequence[HeldOutChange]) -> Chart:
    """Return both models' accuracy with intervals, a row per set of judgments."""
    ends = [end for test in tests for one in (test.before, test.after) for end in (one.low, one.high)]

    def draw(inches: float) -> Figure:
        chart = figure(inches, 0.85 * len(tests) + 0.85)
        axes = chart.subplots()
        tidy(axes)
        heading(axes, "Agrees with raters", "grey: before, red: after")
        axes.set_xlim(min(0.45, *ends) - 0.02, min(1.0, max(ends)) + 0.05)
        axes.set_ylim(len(tests) - 0.4, -0.6)
        axes.axvline(0.5, color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)))
        axes.set_yticks(range(len(tests)), [sentence(test.name) for test in tests])
        axes.xaxis.set_major_formatter(lambda x, _: percent(x))
        for place, test in enumerate(tests):
            axes.get_yticklabels()[place].set_color(INK)
            for one, colour, shift in ((test.before, BEFORE, -0.17), (test.after, AFTER, 0.17)):
                axes.plot([one.low, one.high], [place + shift] * 2, color=colour, linewidth=6, alpha=0.35, solid_capstyle="butt")
                axes.plot([one.value], [place + shift], "o", color=colour, markersize=6, markeredgewidth=0)
                beside = (one.value, place + shift + (-0.2 if shift < 0 else 0.22))
                axes.text(*beside, percent(one.value), color=colour, ha="center", va="center", fontsize=9, fontweight="bold")
        return chart

    alt = "; ".join(
        f"{test.name}: {percent(test.before.value)} ({percent_interval(test.before)}) before, {percent(test.after.value)} "
        f"({percent_interval(test.after)}) after"
        for test in tests
    )
    return drawn(draw, "accuracy", f"Accuracy on judgments. {sentence(alt)}.", HALF)


def calibration_chart(tests: Sequence[HeldOutChange]) -> Chart:
    """Return the observed share against the stated probability of both models, a panel per set of judgments."""

    def draw(inches: float) -> Figure:
        across = len(tests) if inches > NARROW else 1
        chart = figure(inches, 2.55 * (len(tests) // across))
        for axes, test in zip(chart.subplots(len(tests) // across, across, squeeze=False).flat, tests, strict=True):
            tidy(axes, grid="both")
            heading(axes, f"{sentence(test.name)} judgments", "dashed: perfect" if inches > NARROW and across == 1 else "")
            axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)))
            for bins, colour in zip(test.bins, (BEFORE, AFTER), strict=True):
                _bins(axes, bins, colour)
            axes.set_xlim(0, 1)
            axes.set_ylim(0, 1)
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_ticks([0, 0.25, 0.5, 0.75, 1] if across == 1 else [0, 0.5, 1])
                axis.set_major_formatter(lambda x, _: percent(x))
            axes.set_xlabel("stated", fontsize=8.5)
            axes.set_ylabel("came true", fontsize=8.5)
        return chart

    alt = "; ".join(
        f"{test.name} judgments, {when}: " + ", ".join(f"stated {percent(b.predicted)}, observed {percent(b.observed.value)}" for b in bins)
        for test in tests
        for when, bins in zip(("before", "after"), test.bins, strict=True)
    )
    return drawn(draw, "calibration", f"Calibration. {sentence(alt)}.", HALF)


def _bins(axes: Axes, bins: Sequence[Bin], colour: str) -> None:
    for one in bins:
        axes.plot([one.predicted] * 2, [one.observed.low, one.observed.high], color=colour, linewidth=4, alpha=0.22)
    x, y = [one.predicted for one in bins], [one.observed.value for one in bins]
    axes.plot(x, y, "o-", color=colour, linewidth=1.3, markersize=4.5, markeredgewidth=0)


def curve_chart(curve: LearningCurve, new: HeldOutChange) -> Chart:
    """Return measured accuracies, the fitted curve, and the forecast for more labels with its interval."""
    labels = [one.labels for one in curve.measured]
    most = max(labels)
    ahead = [most, *(one.labels for one in curve.forecasts)]

    def fitted(n: float) -> float:
        return float(curve.limit.value - curve.gap * n**-curve.exponent)

    def draw(inches: float) -> Figure:
        chart = figure(inches, 2.7)
        axes = chart.subplots()
        tidy(axes, grid="y")
        heading(axes, "Accuracy on new judgments", "dashed: expected")
        axes.axhline(new.before.value, color=BEFORE, linewidth=1.1)
        axes.annotate(
            "before", (ahead[-1], new.before.value), xytext=(0, 4), textcoords="offset points", color=MUTED, fontsize=8, ha="right"
        )
        known, unknown = np.geomspace(min(labels), most, 40), np.geomspace(most, ahead[-1], 40)
        axes.plot(known, [fitted(n) for n in known], color=AFTER, linewidth=1.6)
        axes.plot(unknown, [fitted(n) for n in unknown], color=AFTER, linewidth=1.6, linestyle=(0, (3, 2)))
        at = fitted(most)
        low, high = (
            [at, *(at + end for end in ends)] for ends in zip(*((one.gain.low, one.gain.high) for one in curve.forecasts), strict=True)
        )
        axes.fill_between(ahead, low, high, color=AFTER, alpha=0.14, linewidth=0)
        for one in curve.measured:
            interval_of = share(one.accuracy * one.pairs, one.pairs)
            axes.plot([one.labels] * 2, [interval_of.low, interval_of.high], color=AFTER, linewidth=5, alpha=0.3, solid_capstyle="butt")
            axes.plot([one.labels], [one.accuracy], "o", color=AFTER, markersize=5.5, markeredgewidth=0)
        axes.set_xscale("log")
        places = sorted({*labels, ahead[1], ahead[-1]})
        axes.set_xticks(places, [thousands(n) for n in places])
        axes.minorticks_off()
        axes.set_xlabel("labels learned from", fontsize=8.5)
        axes.yaxis.set_major_formatter(lambda x, _: percent(x))
        axes.margins(x=0.04, y=0.12)
        return chart

    alt = "; ".join(f"{thousands(one.labels)} labels {percent(one.accuracy, 1)}" for one in curve.measured)
    alt += "; expected: " + "; ".join(
        f"{thousands(f.labels)} {percent(f.accuracy.value, 1)} ({interval(f.accuracy)})" for f in curve.forecasts
    )
    return drawn(draw, "curve", f"Learning curve: {alt}.", FULL)

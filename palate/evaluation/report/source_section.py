"""The section of the report on who judged: its sentence and its chart."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from palate.evaluation.report.dot_charts import FULL, drawn
from palate.evaluation.report.formatting import gain, listed, people_labels, percent, percent_interval, sentence, wrapped
from palate.evaluation.report.model_colours import model_colours
from palate.evaluation.report.report_data import ReportData
from palate.evaluation.report.source_records import LabelSource
from palate.evaluation.report.svg import COLOURS, INK, MUTED, Chart, figure, heading, tidy
from palate.evaluation.report.takeaways import overall, verb


def sources_takeaway(report: ReportData) -> str:
    """What models gained with labels of each source, how far they are apart, and the accuracy of the reward models."""
    reference = report.variant(report.reference).name if report.sources else ""
    clauses = []
    trained = [source for source in report.sources if source.variant]
    for source in trained:
        row = overall(report, source.variant)
        if row is not None and row.versus_reference is not None:
            word = verb(row.versus_reference, "gains", "loses", "does not measurably move")
            labels = people_labels(source.people_labels)
            clauses.append(f"{report.variant(source.variant).name} {word} ({gain(row.versus_reference)}) with {labels}")
    text = f"Against {reference}, {listed(clauses)}. " if clauses else ""
    for contest in report.gold.contests if report.gold else ():
        if {contest.first, contest.second} <= {source.variant for source in trained}:
            first, second = report.variant(contest.first).name, report.variant(contest.second).name
            word = verb(contest.difference, "gains more than", "gains less than", "is not measurably apart from")
            text += f"{first} {word} {second} ({gain(contest.difference)}). "
    measured = [(source.name, source.reward_accuracy) for source in report.sources if source.reward_accuracy is not None]
    found = [f"with {name} {percent(one.value, 1)} ({percent_interval(one)})" for name, one in measured]
    return f"{text}Held-out pairs that the reward models get right: {listed(found)}." if found else text.strip()


def has_source_chart(report: ReportData) -> bool:
    """Whether the accuracy of a reward model is known for any source."""
    return any(source.reward_accuracy is not None for source in report.sources)


def source_chart(report: ReportData, width: float = FULL) -> Chart | None:
    """The accuracy of the reward models by source of their labels, with 95 % intervals."""
    rows = [(source, source.reward_accuracy) for source in report.sources if source.reward_accuracy is not None]
    if not rows:
        return None

    colours = model_colours(report.variants)

    def draw(inches: float) -> Figure:
        drawing = figure(inches, 0.62 * len(rows) + 0.8)
        axes = drawing.subplots()
        tidy(axes)
        axes.set_ylim(len(rows) - 0.4, -0.7)
        axes.set_yticks(range(len(rows)), [wrapped(sentence(source.name), 18) for source, _ in rows])
        ends = [end for _, one in rows for end in (one.low, one.high)]
        axes.set_xlim(min(0.48, *ends) - 0.01, max(ends) + 0.03)
        axes.axvline(0.5, color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)))
        axes.text(0.5, -0.66, "chance", color=MUTED, fontsize=7.8, va="top", ha="center")
        axes.xaxis.set_major_formatter(lambda x, _: percent(x))
        for place, (source, one) in enumerate(rows):
            axes.get_yticklabels()[place].set_color(INK)
            colour = COLOURS[colours[source.variant]] if source.variant else MUTED
            axes.plot([one.low, one.high], [place, place], color=colour, linewidth=6, alpha=0.35, solid_capstyle="butt", zorder=3)
            axes.plot([one.value], [place], "o", color=colour, markersize=7, zorder=4, markeredgewidth=0)
            note = f"{percent(one.value, 1)}, {people_labels(source.people_labels)}"
            is_right = one.value > sum(axes.get_xlim()) / 2  # a note stays within the axes
            at, side = (one.high, "right") if is_right else (one.low, "left")
            axes.text(at, place - 0.34, note, color=INK, fontsize=8.2, ha=side, va="center")
        heading(axes, "Right on held-out pairs")
        return drawing

    return drawn(draw, "sources", _alt(rows), width)


def _alt(rows: Sequence[tuple[LabelSource, object]]) -> str:
    return (
        "; ".join(
            f"{source.name}: {percent(source.reward_accuracy.value, 1)} ({percent_interval(source.reward_accuracy)}), "
            f"{people_labels(source.people_labels)}"
            for source, _ in rows
            if source.reward_accuracy is not None
        )
        + "."
    )

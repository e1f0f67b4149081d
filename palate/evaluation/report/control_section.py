"""The sentence of the report on standing controls: whether an answer without content is above the reference."""

from __future__ import annotations

from palate.evaluation.intervals import Estimate
from palate.evaluation.report.formatting import gain, listed
from palate.evaluation.report.lever_records import ControlRow
from palate.evaluation.report.report_data import ReportData


def controls_takeaway(report: ReportData) -> str:
    """Warn of every control that is measurably above the reference; where none is, say so with the differences."""
    reference = report.variant(report.reference).name
    controls = [row for row in report.controls if not row.variant]
    scored = [(row, row.score_gap) for row in controls if row.score_gap is not None]
    true = [(row, row.gold_gap) for row in controls if row.gold_gap is not None]
    parts = []
    if above := _named([(row, gap) for row, gap in scored if gap.low > 0]):
        parts.append(f"Caution: the reward model scores {above} above {reference}. A policy can earn that without content.")
    elif scored:
        parts.append(f"The reward model scores no control measurably above {reference}: {_named(scored)}.")
    if above := _named([(row, gap) for row, gap in true if gap.low > 0]):
        parts.append(f"Caution: gold puts {above} above {reference}.")
    return " ".join(parts)


def _named(rows: list[tuple[ControlRow, Estimate]]) -> str:
    return listed([f"\u201c{row.name}\u201d ({gain(gap)})" for row, gap in rows])

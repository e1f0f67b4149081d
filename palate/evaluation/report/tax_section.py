"""The sentence of the report on what training runs lost, and how they differ in it."""

from __future__ import annotations

from collections.abc import Sequence

from palate.evaluation.intervals import Estimate
from palate.evaluation.report.formatting import listed, signed
from palate.evaluation.report.report_data import ReportData
from palate.evaluation.report.tax_records import TaxRow


def tax_takeaway(report: ReportData) -> str:
    """Say what each run lost against its start and against the first run, as far as the intervals support it."""
    sentences = []
    for run in dict.fromkeys(name for row in report.tax for name in row.changes):
        lost = _moved([(row, row.changes.get(run)) for row in report.tax])
        sentences.append(f"{run} changed {lost}" if lost else f"{run} shows no measurable change")
    apart = {run: _moved([(row, row.versus_first.get(run)) for row in report.tax]) for row in report.tax for run in row.versus_first}
    text = f"from the start to the weights that were kept, {'; '.join(sentences)}." if sentences else ""
    return " ".join([text, *(f"Against {report.tax[0].first}, {run} changed {moved}." for run, moved in apart.items() if moved)])


def _moved(changes: Sequence[tuple[TaxRow, Estimate | None]]) -> str:
    """Return the changes whose intervals exclude zero, in words; "" where there are none."""
    units = {True: " nats per token", False: ""}
    return listed(
        [
            f"{'the loss on texts' if row.is_loss else row.title} by {signed(change.value, 3)}{units[row.is_loss]}"
            for row, change in changes
            if change is not None and change.excludes_zero
        ]
    )

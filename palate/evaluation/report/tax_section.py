"""The sentence of the report on what training runs lost, and how they differ in it."""

from __future__ import annotations

from palate.evaluation.intervals import Estimate
from palate.evaluation.report.formatting import listed, signed
from palate.evaluation.report.report_data import ReportData
from palate.evaluation.report.takeaways import verb
from palate.evaluation.report.tax_records import TaxRow


def tax_takeaway(report: ReportData) -> str:
    """Say what each run lost against its start and against the first run, as far as the intervals support it."""
    sentences = []
    for run in dict.fromkeys(name for row in report.tax for name in row.changes):
        lost = [_change(row, change) for row in report.tax if (change := row.changes.get(run)) is not None and change.excludes_zero]
        sentences.append(f"{run} changed {listed(lost)}" if lost else f"{run} shows no measurable change")
    apart = [
        f"{run} has {verb(gap, 'more', 'less', '')} {row.title} than {row.first} ({signed(gap.value, 3)})"
        for row in report.tax
        for run, gap in row.versus_first.items()
        if gap.excludes_zero
    ]
    text = f"from the start to the weights that were kept, {'; '.join(sentences)}." if sentences else ""
    return f"{text} {'; '.join(apart)}." if apart else text


def _change(row: TaxRow, change: Estimate) -> str:
    return f"{row.title} by {signed(change.value, 3)}"

"""The sentence of the report's section on written rules."""

from __future__ import annotations

from palate.evaluation.report.formatting import listed, signed
from palate.evaluation.report.report_data import ReportData
from palate.evaluation.report.takeaways import verb


def rules_takeaway(report: ReportData) -> str:
    """Say which rules each model breaks more or less often than the reference, and of which rules a classifier may miss breaches."""
    unsure = list(dict.fromkeys(row.rule for row in report.rules if row.limit))
    limit = f" The classifier may miss breaches of {listed(unsure)}: its own test does not show that it finds them." if unsure else ""
    return _moved(report) + limit if report.rules else ""


def _moved(report: ReportData) -> str:
    """Say which rules each model breaks more or less often than the reference, as far as the intervals support it."""
    sentences = []
    for variant in report.variants:
        moved = [
            f"breaks {row.rule} {verb(gap, 'more', 'less', '')} often ({signed(100 * gap.value, 0)} points)"
            for row in report.rules
            if (gap := row.versus_reference.get(variant.key)) is not None and gap.excludes_zero
        ]
        if moved:
            sentences.append(f"{variant.name} {listed(moved)}")
    if sentences:
        return f"against {report.variant(report.reference).name}, {'; '.join(sentences)}."
    return "no model breaks a rule measurably more or less often than another."

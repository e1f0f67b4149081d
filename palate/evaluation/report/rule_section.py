"""The sentence of the report's section on written rules."""

from __future__ import annotations

from palate.evaluation.report.formatting import listed, signed
from palate.evaluation.report.report_data import ReportData
from palate.evaluation.report.takeaways import verb


def rules_takeaway(report: ReportData) -> str:
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
    return "no model breaks a rule measurably more or less often than another." if report.rules else ""

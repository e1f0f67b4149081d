"""The sentence of the report on faults: how many are shown, and among how many that were looked for."""

from __future__ import annotations

from palate.evaluation.report.fault_records import FAULTS
from palate.evaluation.report.formatting import listed
from palate.evaluation.report.report_data import ReportData


def faults_takeaway(report: ReportData) -> str:
    """Return how many faults are shown, what was looked for and what was not measured; "" where nothing was looked for."""
    check = report.faults
    if check is None or not check.looked_for:
        return ""
    names = list(dict.fromkeys(FAULTS[one.fault] for one in check.found))
    start = f"The figures show {listed(names)}." if names else f"None of the {len(check.looked_for)} faults that were looked for is shown."
    missing = f" Not measured: {listed([FAULTS[name] for name in check.not_measured])}." if check.not_measured else ""
    return start + missing

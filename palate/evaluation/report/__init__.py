"""The report: one self-contained HTML file. `ReportData` in, a page out.

matplotlib and jinja2 are imported only when a page is rendered, so the records can be built without them.
"""

from __future__ import annotations

from pathlib import Path

from palate.evaluation.report.records import (
    AuditRow,
    AxisScore,
    BestOfN,
    BestOfNPoint,
    Better,
    CalibrationBin,
    Exam,
    ExamKind,
    ExampleAnswer,
    ExamResult,
    ExploitShare,
    GoldScores,
    Highlight,
    HighlightKind,
    LengthRow,
    LineageRow,
    PromptExample,
    Replicate,
    RewardAccuracy,
    RewardModelCard,
    StageTiming,
    Takeaways,
    Training,
    TrainingPoint,
    TrainingRun,
    Variant,
    VariantRole,
    WinRate,
    WinRates,
)
from palate.evaluation.report.report_data import ReportData


def render(report: ReportData) -> str:
    """The page as one string of HTML: no script, no request to anywhere, the same bytes for the same data."""
    from palate.evaluation.report.page import render_page

    return render_page(report)


def write_report(report: ReportData, path: str | Path) -> Path:
    """The path written: `report` rendered and put in place in one step, so that a reader never sees half a page."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".part")
    partial.write_text(render(report), encoding="utf-8")
    partial.replace(target)
    return target


__all__ = [
    "AuditRow",
    "AxisScore",
    "BestOfN",
    "BestOfNPoint",
    "Better",
    "CalibrationBin",
    "Exam",
    "ExamKind",
    "ExamResult",
    "ExampleAnswer",
    "ExploitShare",
    "GoldScores",
    "Highlight",
    "HighlightKind",
    "LengthRow",
    "LineageRow",
    "PromptExample",
    "Replicate",
    "ReportData",
    "RewardAccuracy",
    "RewardModelCard",
    "StageTiming",
    "Takeaways",
    "Training",
    "TrainingPoint",
    "TrainingRun",
    "Variant",
    "VariantRole",
    "WinRate",
    "WinRates",
    "render",
    "write_report",
]

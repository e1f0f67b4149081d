"""The report: one self-contained HTML file. It takes a `ReportData` and returns a page.

matplotlib and jinja2 are imported only when a page is rendered, so the records can be built without them.
"""

from __future__ import annotations

import logging
from pathlib import Path

from palate.evaluation.report.constitution_records import ModelCost, PrincipleRow, RevisionRounds
from palate.evaluation.report.published_records import PublishedFigureRow
from palate.evaluation.report.records import (
    AuditRow,
    BestOfN,
    BestOfNPoint,
    Better,
    Contest,
    DimensionScore,
    Eval,
    EvalKind,
    EvalResult,
    ExampleAnswer,
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
    RunWarning,
    StageTiming,
    Takeaways,
    Variant,
    VariantRole,
    WinRate,
    WinRates,
)
from palate.evaluation.report.report_data import ReportData
from palate.evaluation.report.rule_records import RuleBreachRow
from palate.evaluation.report.source_records import LabelSource
from palate.evaluation.report.tax_records import TaxRow
from palate.evaluation.report.training_records import Training, TrainingPoint, TrainingRun

# Where the home directory cannot be written, matplotlib warns at its import and keeps its fonts elsewhere. The page is the same.
logging.getLogger("matplotlib").setLevel(logging.ERROR)


def render(report: ReportData) -> str:
    """Return the page as one string of HTML. It has no script and loads nothing; the same data give the same bytes."""
    from palate.evaluation.report.report_page import render_page

    return render_page(report)


def write_report(report: ReportData, path: str | Path) -> Path:
    """Write the page of `report` to `path` in one step, so that a reader never sees half a page. Return the path."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".part")
    partial.write_text(render(report), encoding="utf-8")
    partial.replace(target)
    return target


__all__ = [
    "AuditRow",
    "BestOfN",
    "BestOfNPoint",
    "Better",
    "Contest",
    "DimensionScore",
    "Eval",
    "EvalKind",
    "EvalResult",
    "ExampleAnswer",
    "ExploitShare",
    "GoldScores",
    "Highlight",
    "HighlightKind",
    "LabelSource",
    "LengthRow",
    "LineageRow",
    "ModelCost",
    "PrincipleRow",
    "PromptExample",
    "PublishedFigureRow",
    "Replicate",
    "ReportData",
    "RevisionRounds",
    "RewardAccuracy",
    "RewardModelCard",
    "RuleBreachRow",
    "RunWarning",
    "StageTiming",
    "Takeaways",
    "TaxRow",
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

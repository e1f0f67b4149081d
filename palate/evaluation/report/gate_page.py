"""The page of a gate: the verdict as one string of HTML. Every string is escaped."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from palate.evaluation.gate import GateReport, LimitResult
from palate.evaluation.intervals import Estimate
from palate.evaluation.report.formatting import interval, number, percent, signed
from palate.evaluation.report.page_template import rendered_page
from palate.evaluation.run_metrics import FAMILIES, FIGURES, WINS


@dataclass(frozen=True)
class GateCell:
    """A figure of the table, and what stands below it."""

    value: str
    detail: str
    relative: str = ""


@dataclass(frozen=True)
class GateRow:
    """A row of the table: one limit."""

    limit: str
    meaning: str
    status: str
    mark: str
    held: str
    reason: str
    cells: tuple[tuple[str, GateCell | None], ...]


def render_gate(report: GateReport) -> str:
    """The page as one string; the same verdict gives the same bytes."""
    return rendered_page("gate.html", {"report": report, "rows": [gate_row(result) for result in report.results]})


def gate_row(result: LimitResult) -> GateRow:
    """Return the row of one limit."""
    status = result.status if result.status != "unknown" or result.fails else "unknown, which this gate allows"
    by = "estimate" if result.limit.by == "estimate" else f"{result.limit.by} end"
    held = "" if result.number is None else f"{by}: {number(result.number, 3)}"
    change = _cell(result.change, sign=True)
    if change is not None and (one := result.relative) is not None:
        ends = "interval not known" if math.isnan(one.low) else f"{percent(one.low, 1)} to {percent(one.high, 1)}"
        change = replace(change, relative=f"relative: {percent(one.value, 1)}, {ends}")
    cells = (("Candidate", _cell(result.candidate)), ("Baseline", _cell(result.baseline)), ("Change", change))
    mark = "good" if result.status == "passed" else "bad" if result.fails else "trick"
    return GateRow(result.limit.words, meaning_of(result.limit.metric), status, mark, held, result.reason, cells)


def meaning_of(metric: str) -> str:
    """Return what a metric is, in words."""
    if metric in WINS:
        return f"how often the candidate's completion has the higher {WINS[metric]}; a tie is half a win"
    return FIGURES.get(metric) or next((text for name, text in FAMILIES.items() if metric.startswith(name)), "")


def _cell(estimate: Estimate | None, *, sign: bool = False) -> GateCell | None:
    if estimate is None:
        return None
    return GateCell((signed if sign else number)(estimate.value, 3), f"{interval(estimate, 3)}, n = {estimate.n}")

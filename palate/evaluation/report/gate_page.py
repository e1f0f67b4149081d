"""The page of a gate: the verdict as one string of HTML. Every string is escaped."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from palate.evaluation.gate import GateReport, LimitResult
from palate.evaluation.intervals import Estimate
from palate.evaluation.report.formatting import interval, number, percent, signed
from palate.evaluation.run_metrics import FAMILIES, FIGURES, WINS


@dataclass(frozen=True)
class GateCell:
    """A figure of the table, and what stands below it."""

    value: str
    detail: str


@dataclass(frozen=True)
class GateRow:
    """A row of the table: one limit."""

    limit: str
    meaning: str
    status: str
    reason: str
    cells: tuple[tuple[str, GateCell | None], ...]


def render_gate(report: GateReport) -> str:
    """The page as one string; the same verdict gives the same bytes."""
    folder = resources.files("palate.evaluation.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    style = Markup(folder.joinpath("page.css").read_text(encoding="utf-8"))
    template = environment.from_string(folder.joinpath("gate.html").read_text(encoding="utf-8"))
    return template.render(report=report, style=style, rows=[gate_row(result) for result in report.results]) + "\n"


def gate_row(result: LimitResult) -> GateRow:
    """Return the row of one limit."""
    status = result.status if result.status != "unknown" or result.fails else "unknown, which this gate allows"
    change, base = result.change, result.baseline
    relative = None if change is None or base is None or base.value == 0 else GateCell(percent(change.value / abs(base.value), 1), "")
    cells = (
        ("Measured", _cell(result.measured, sign=result.limit.of != "value")),
        ("Candidate", _cell(result.candidate)),
        ("Baseline", _cell(base)),
        ("Change", _cell(change, sign=True)),
        ("Relative change", relative),
    )
    return GateRow(result.limit.words, meaning_of(result.limit.metric), status, result.reason, cells)


def meaning_of(metric: str) -> str:
    """Return what a metric is, in words."""
    if metric in WINS:
        return f"how often the candidate's completion has the higher {WINS[metric]}; a tie is half a win"
    return FIGURES.get(metric) or next((text for name, text in FAMILIES.items() if metric.startswith(name)), "")


def _cell(estimate: Estimate | None, *, sign: bool = False) -> GateCell | None:
    if estimate is None:
        return None
    return GateCell((signed if sign else number)(estimate.value, 3), f"{interval(estimate, 3)}, n = {estimate.n}")

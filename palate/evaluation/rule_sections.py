"""The report's section on written rules, from what evaluate runs wrote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from palate.data.files import read_json
from palate.evaluation.evaluated_model import EvaluatedModel, Row, matched
from palate.evaluation.intervals import Estimate, paired_difference, share
from palate.evaluation.report import RuleBreachRow
from palate.evaluation.rule_audit import COLUMN

SUMMARY = "summary.json"


def rules_of(models: Sequence[EvaluatedModel], reference: EvaluatedModel) -> tuple[RuleBreachRow, ...]:
    """Return a row per rule and checker. What one checker says is never compared with what another says."""
    audits = {m.key: _audit(m) for m in models}
    checkers = {key: {rule: str(own["checked_by"]) for rule, own in audit.items()} for key, audit in audits.items()}
    rows = []
    for rule, checked_by in dict.fromkeys((rule, one) for own in checkers.values() for rule, one in own.items()):
        having = [m for m in models if checkers[m.key].get(rule) == checked_by]
        broken = {m.key: share(sum(flags), len(flags)) for m in having if (flags := _flags(m.rows, rule))}
        gaps: dict[str, Estimate] = {}
        if reference in having:
            for m in having:
                pairs = (
                    [] if m is reference else [pair for pair in matched(m.rows, reference.rows) if all(_known(row, rule) for row in pair)]
                )
                if pairs:
                    gaps[m.key] = paired_difference(*(_flags(side, rule) for side in zip(*pairs, strict=True)))
        limits = dict.fromkeys(limit for m in having if (limit := audits[m.key][rule].get("limit")))
        rows.append(RuleBreachRow(rule, checked_by, broken, gaps, "; ".join(limits)))
    return tuple(rows)


def _audit(model: EvaluatedModel) -> dict[str, Any]:
    """Return the figures of each rule in a model's evaluate run, by the rule's id."""
    path = Path(model.directory) / SUMMARY
    summary: Any = read_json(path) if path.is_file() else {}
    rules: dict[str, Any] = summary.get("rules", {})
    return rules


def _known(row: Row, rule: str) -> bool:
    return row.get(COLUMN, {}).get(rule) is not None


def _flags(rows: Sequence[Row], rule: str) -> list[float]:
    return [float(row[COLUMN][rule] > 0.5) for row in rows if _known(row, rule)]

"""The figures of the alignment tax: values of texts and questions at the start and later, and how much they changed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.agreement.estimates import Estimate
from palate.data.jsonl import read_rows
from palate.evaluation.cluster_bootstrap import ratio
from palate.evaluation.evals import figure
from palate.evaluation.intervals import mean, paired_difference, paired_share_difference
from palate.evaluation.report import TaxRow

TEXT_NLL = "text_nll"
"""The measure of texts: their negative log-likelihood, nats per token."""

TAX_FILE = "tax.jsonl"
"""The value of every text and question at the start and at the end of a run."""


@dataclass(frozen=True)
class TaxUnit:
    """A text or a question.

    Attributes:
        measure: `text_nll`, or the name of the question's eval.
        name: which text or question it is.
        cluster: what it belongs to; None where it stands alone.
        weight: the learned tokens of a text, and 1 for a question.
    """

    measure: str
    name: str
    cluster: str | None = None
    weight: float = 1.0


def measures_of(units: Sequence[TaxUnit]) -> list[str]:
    """Return the names of what was measured, texts first."""
    return list(dict.fromkeys(unit.measure for unit in units))


def tax_change(units: Sequence[TaxUnit], start: Sequence[float], values: Sequence[float]) -> Estimate:
    """Return how the figure of one measure changed, with the interval of the differences of the same units.

    Of texts it is the change of the loss per token. Shares of right answers have an interval with a width also where no answer changed.
    """
    changes = [after - before for before, after in zip(start, values, strict=True)]
    clusters = [unit.cluster for unit in units]
    if units[0].measure == TEXT_NLL or None not in clusters:
        names = [unit.cluster or unit.name for unit in units]
        return ratio(changes, [unit.weight for unit in units], names)
    is_share = all(value in (0.0, 1.0) for value in (*start, *values))
    return (paired_share_difference if is_share else paired_difference)(values, start)


def _level(units: Sequence[TaxUnit], values: Sequence[float]) -> Estimate:
    if units[0].measure == TEXT_NLL:
        return ratio(values, [unit.weight for unit in units], [unit.name for unit in units])
    return mean(values)


def _by_measure(units: Sequence[TaxUnit], *columns: Sequence[float]) -> Iterator[tuple[str, list[TaxUnit], list[list[float]]]]:
    for name in measures_of(units):
        at = [k for k, unit in enumerate(units) if unit.measure == name]
        yield name, [units[k] for k in at], [[column[k] for k in at] for column in columns]


def tax_metrics(units: Sequence[TaxUnit], start: Sequence[float], values: Sequence[float]) -> dict[str, float]:
    """Return each measure and its change since the start, with the change's standard error where it is known."""
    metrics: dict[str, float] = {}
    for measure, own, (before, after) in _by_measure(units, start, values):
        name, change = re.sub(r"[^\w.-]+", "_", measure), tax_change(own, before, after)
        metrics |= {f"tax/{name}/mean": _level(own, after).value, f"tax/{name}_change/mean": change.value}
        if math.isfinite(change.se) and before != after:
            metrics[f"tax/{name}_change/se"] = change.se
    return metrics


def tax_figures(units: Sequence[TaxUnit], start: Sequence[float], values: Sequence[float]) -> dict[str, Mapping[str, Any]]:
    """Return start, end and change of each measure as a summary writes them."""
    return {
        measure: {
            "start": figure(_level(own, before)),
            "end": figure(_level(own, after)),
            "change": figure(tax_change(own, before, after)),
        }
        for measure, own, (before, after) in _by_measure(units, start, values)
    }


def tax_rows(runs: Mapping[str, str]) -> tuple[TaxRow, ...]:
    """Return a row of the report for each measure of the runs that measured their tax, by the runs' names.

    The kept weights of a run are compared with its own start, and with those of the first of these runs on the units that both measured.
    """
    files = {name: Path(directory) / TAX_FILE for name, directory in runs.items()}
    tables = {name: {_unit_of(row): row for _, row in read_rows(file)} for name, file in files.items() if file.is_file()}
    measured = dict.fromkeys(unit.measure for table in tables.values() for unit in table)
    return tuple(_tax_row(measure, tables) for measure in measured)


def _unit_of(row: Mapping[str, Any]) -> TaxUnit:
    return TaxUnit(row["measure"], row["name"], row["cluster"], row["weight"])


def _tax_row(measure: str, tables: Mapping[str, Mapping[TaxUnit, Mapping[str, Any]]]) -> TaxRow:
    own = {name: {unit: row for unit, row in table.items() if unit.measure == measure} for name, table in tables.items()}
    own = {name: rows for name, rows in own.items() if rows}
    first, *others = own
    changes, versus = {}, {}
    for name, rows in own.items():
        changes[name] = tax_change(list(rows), [row["start"] for row in rows.values()], [row["end"] for row in rows.values()])
    for name in others:
        if shared := [unit for unit in own[name] if unit in own[first]]:
            ends = ([own[run][unit]["end"] for unit in shared] for run in (first, name))
            versus[name] = tax_change(shared, *ends)
    return TaxRow(measure, measure == TEXT_NLL, changes, first, versus)

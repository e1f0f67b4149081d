"""A sweep over KL strengths: runs that differ in the KL coefficient become one frontier of gold, or a held-out score, against the KL."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from palate.agreement.estimates import from_normal
from palate.core import ConfigError, DataError
from palate.data.jsonl import read_rows
from palate.evaluation.evaluated_model import EvaluatedModel, is_known, matched, read_evaluated
from palate.evaluation.intervals import Estimate, mean, paired_difference
from palate.evaluation.report.lever_records import KLSweep, SweepPoint
from palate.evaluation.report_sections import first_kl_coef
from palate.evaluation.trained_against import Measures, trained_against
from palate.runs.record import RunRecord, ancestry, parent_path, read_record

MEASURES = {"online/gold": "gold", "online/held_out_score": "held-out score"}
"""Metrics of `online` that no policy is trained on, the best one first, and what the page calls them."""


def kl_sweep(directories: Sequence[str], start: EvaluatedModel, start_name: str) -> KLSweep:
    """Read a sweep: online runs, measured on the completions of their last quarter, or evaluate runs of models that online runs made.

    Args:
        directories: the runs.
        start: the evaluated model that all runs start from; online runs have their own first iteration in its place.
        start_name: what the page calls it.

    Raises:
        ConfigError: the runs are of different stages, or two have one coefficient.
        DataError: gold and a held-out score are missing.
    """
    records = [(Path(directory), read_record(Path(directory))) for directory in directories]
    stages = {None if record is None else record.stage for _, record in records}
    if len(stages) > 1 or not stages <= {"online", "evaluate"}:
        raise ConfigError("sweep: give online runs alone, or evaluate runs of their models alone")
    if stages == {"online"}:
        sweep = _of_online([path for path, _ in records])
    else:
        sweep = _of_evaluated([path for path, _ in records], start, start_name)
    coefficients = [point.coefficient for point in sweep.points]
    twice = next((one for one in coefficients if coefficients.count(one) > 1), None)
    if twice is not None:
        raise ConfigError(f"sweep: two of the runs have the KL coefficient {twice:g}. Give runs that differ in it")
    return replace(sweep, points=tuple(sorted(sweep.points, key=lambda point: point.coefficient)))


def _of_online(directories: Sequence[Path]) -> KLSweep:
    runs: list[list[Mapping[str, Any]]] = [[row for _, row in read_rows(path / "metrics.jsonl")] for path in directories]
    key = next((key for key in MEASURES if all(any(f"{key}/mean" in row for row in rows) for rows in runs)), None)
    if key is None:
        raise DataError("sweep: not all runs measured gold, nor a held-out score. Set gold, or held_out.reward, in online")
    start = _of_iterations(runs[0][:1], key)
    lasts = [[row for row in rows if f"{key}/mean" in row][-max(1, len(rows) // 4) :] for rows in runs]
    values = [_of_iterations(rows, key) for rows in lasts]
    best = max(range(len(values)), key=lambda k: values[k].value)
    points = [
        SweepPoint(
            first_kl_coef(path),
            mean([float(row["online/kl/mean"]) for row in rows]),
            value,
            None if start is None else _unpaired(value, start),
            None if k == best else _allowing_for_choice(_unpaired(value, values[best]), len(values)),
            _of_iterations(rows, "online/score") if all("online/score/mean" in row for row in rows) else None,
        )
        for k, (path, rows, value) in enumerate(zip(directories, lasts, values, strict=True))
    ]
    count = max(len(rows) for rows in lasts)
    how = f"Each point is the last {count} iterations of a run, on prompts that it trained on. The start is the first iteration."
    return KLSweep(MEASURES[key], tuple(points), start, "the start", how)


def _of_iterations(rows: Sequence[Mapping[str, Any]], key: str) -> Estimate:
    """Return the mean of a metric over iterations, whose errors are independent."""
    errors = [float(row.get(f"{key}/se", math.nan)) for row in rows]
    value, se = float(np.mean([float(row[f"{key}/mean"]) for row in rows])), math.sqrt(sum(e * e for e in errors)) / len(errors)
    return from_normal(value, se, len(rows))


def _unpaired(value: Estimate, other: Estimate) -> Estimate:
    return from_normal(value.value - other.value, math.hypot(value.se, other.se), min(value.n, other.n))


def _allowing_for_choice(difference: Estimate, count: int) -> Estimate:
    """Widen the interval of a difference from the best of `count` points, as for so many comparisons (Bonferroni)."""
    reach = NormalDist().inv_cdf(1 - 0.025 / max(1, count - 1)) * difference.se
    return replace(difference, low=difference.value - reach, high=difference.value + reach)


def _of_evaluated(directories: Sequence[Path], start: EvaluatedModel, start_name: str) -> KLSweep:
    models = [read_evaluated(path.name, str(path)) for path in directories]
    if all(model.has("gold") for model in models):
        key, measure = "gold", "gold"
    elif all(model.has("score") and not _is_trained_against(model) for model in models):
        key, measure = "score", "held-out score"
    else:
        raise DataError("sweep: not all runs measured gold, or a score that the policy was not trained on. Set gold in evaluate")
    tables = [{id(other): row for row, other in matched(model.rows, models[0].rows)} for model in (*models, start)]
    columns = dict.fromkeys((key, "kl", *(("score",) if all(model.has("score") for model in models) else ())))
    shared = [
        id(row)
        for row in models[0].rows
        if all(id(row) in table and all(is_known(table[id(row)], one) for one in columns) for table in tables[:-1])
    ]
    if not shared:
        raise DataError("sweep: no prompt has gold and KL of all models. Set reference in evaluate, and evaluate all on the same prompts")
    figures = {one: [[float(table[at][one]) for at in shared] for table in tables[:-1]] for one in columns}
    first = tables[-1]
    is_started = all(at in first and is_known(first[at], key) for at in shared)
    begun = [float(first[at][key]) for at in shared] if is_started else []
    best = max(range(len(models)), key=lambda k: float(np.mean(figures[key][k])))
    points = [
        SweepPoint(
            _coefficient(path),
            mean(figures["kl"][k]),
            mean(figures[key][k]),
            paired_difference(figures[key][k], begun) if begun else None,
            None if k == best else _allowing_for_choice(paired_difference(figures[key][k], figures[key][best]), len(models)),
            mean(figures["score"][k]) if "score" in figures and key != "score" else None,
        )
        for k, path in enumerate(directories)
    ]
    how = f"Each point is one run, measured on {len(shared)} prompts that all runs share. Differences are paired by prompt."
    return KLSweep(measure, tuple(points), mean(begun) if begun else None, start_name, how)


def _coefficient(directory: Path) -> float:
    """Return the KL coefficient of the online run that led to an evaluated model.

    Raises:
        ConfigError: not exactly one online run led to it.
    """
    record = read_record(directory)
    online = [home for home, one in _ancestors(directory, record) if one.stage == "online"]
    if len(online) != 1:
        raise ConfigError(f"sweep: {len(online)} online runs led to the model of {directory}, and one is needed to know its KL coefficient")
    return first_kl_coef(online[0])


def _ancestors(directory: Path, record: RunRecord | None) -> list[tuple[Path, RunRecord]]:
    key = None if record is None else record.key
    return [(home, one) for name, (home, one) in ancestry(directory).items() if name != key]


def _is_trained_against(model: EvaluatedModel) -> bool:
    home = Path(model.directory)
    record = read_record(home)
    if record is None:
        return True
    measures = Measures.of(record, home)
    policies = [parent_path(home, parent) for parent in record.parents if parent.field in {"model", "completions"}]
    # A held-out reward model may have learned from other judgments of the same run.
    against = [trained_against(str(policy), measures) or frozenset() for policy in policies]
    return not policies or any(found & {"reward", "judge"} for found in against)

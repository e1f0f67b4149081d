"""Proxy, held-out score and gold of finished runs against their KL to the initial policy, each point with its error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from palate.agreement.judged_sample import pooled_variances
from palate.core import ConfigError, DataError
from palate.data.files import read_json
from palate.data.jsonl import read_rows
from palate.evaluation.evaluated_model import EvaluatedModel, is_known, matched, read_evaluated
from palate.evaluation.overoptimisation import Form
from palate.runs.appended_rows import AppendedRows
from palate.runs.record import read_record

Floats = NDArray[np.float64]
Measure = Literal["proxy", "held_out", "people", "gold"]
"""The reward model's score, the score of a reward model that training does not use, the rate at which people prefer the policy to the start
(`palate.stages.online.people_checks`), and the truth."""

EVEN = 0.5
"""The rate at which people prefer the start to itself."""

ONLINE = {"proxy": "online/score", "held_out": "online/held_out_score", "gold": "online/gold"}
OTHERS = {"proxy": "score", "held_out": "held_out_score", "gold": "gold"}
"""Names of the measures in files of `rerank` and `evaluate`."""


@dataclass(frozen=True)
class MeasuredCurve:
    """One measure of one run, in order of the points.

    Attributes:
        run: the run's name; that of all evaluated models together is `evaluated models`.
        measure: what was measured.
        form: the form of Gao et al. for how the policies were made.
        axis: what tells the points apart: iteration, n or model.
        labels: each point's iteration, n or model.
        kl: KL to the initial policy (n,) in nats.
        values: the measure (n,).
        covariance: of the values (n, n); None where a point has no error.
        prompts: how many prompts all points share; None where each point has prompts of its own.
        start: the initial policy's value where it is known without an error.
    """

    run: str
    measure: Measure
    form: Form
    axis: Literal["iteration", "n", "model"]
    labels: tuple[str, ...]
    kl: Floats
    values: Floats
    covariance: Floats | None
    prompts: int | None
    start: float | None = None

    @property
    def d(self) -> Floats:
        """sqrt(max(KL, 0)): an estimate of a tiny KL may fall below zero."""
        return np.sqrt(np.maximum(self.kl, 0.0))

    @property
    def se(self) -> Floats:
        """The standard error of each value (n,), NaN where it is not known."""
        return np.full(self.values.size, math.nan) if self.covariance is None else np.sqrt(np.diag(self.covariance))


def read_curves(directories: Sequence[Path]) -> list[MeasuredCurve]:
    """Return every curve of the runs: one per measure for each online and rerank run, and one per measure for all evaluate runs together.

    Raises:
        ConfigError: a directory is not a run of these stages.
        DataError: a run measured nothing, or its files are of an older version.
    """
    curves: list[MeasuredCurve] = []
    evaluated: list[EvaluatedModel] = []
    for directory in directories:
        record = read_record(directory)
        if record is None:
            raise ConfigError(f"{directory} is not a run: it has no run.json. Give directories of online, rerank or evaluate runs.")
        if record.stage == "online":
            curves += online_curves(record.name, directory)
        elif record.stage == "rerank":
            curves += _rerank_curves(record.name, directory)
        elif record.stage == "evaluate":
            evaluated.append(read_evaluated(record.name, str(directory)))
        else:
            remedy = "Evaluate its model with `reference` set, and give the evaluate runs." if record.stage == "direct" else ""
            raise ConfigError(
                f"{directory} is a run of {record.stage}, which measures no KL. {remedy or 'Give online, rerank or evaluate runs.'}"
            )
    return curves + (_evaluated_curves(evaluated) if evaluated else [])


def online_curves(name: str, directory: Path) -> list[MeasuredCurve]:
    """Return the curves of an online run: each iteration's own completions, whose errors do not go together.

    Raises:
        DataError: the run has no iteration.
    """
    file = AppendedRows(directory / "metrics.jsonl")
    written: Sequence[Mapping[str, Any]] = file.take()[1]
    if file.fault:
        raise DataError(f"{directory}: {file.fault}. Correct the line or take it out.")
    if not written:
        raise DataError(f"{directory} has no iteration yet. Wait for its first ones.")
    rows = [row for row in written if is_known(row, "step") and is_known(row, "online/kl/mean")]
    if not rows:
        raise DataError(f"{directory}: no row of metrics.jsonl has step and online/kl/mean, so its KL is not known.")
    curves = []
    for measure, key in ONLINE.items():
        found = [row for row in rows if is_known(row, f"{key}/mean")]
        if not found:
            continue
        errors = [float(row[f"{key}/se"]) if is_known(row, f"{key}/se") else math.nan for row in found]
        covariance = np.diag(np.square(errors)) if all(error > 0 for error in errors) else None
        labels = tuple(str(row["step"]) for row in found)
        kl, values = (np.array([float(row[each]) for row in found]) for each in ("online/kl/mean", f"{key}/mean"))
        curves.append(MeasuredCurve(name, measure, "rl", "iteration", labels, kl, values, covariance, None))  # type: ignore[arg-type]
    return curves + _people_curves(name, directory, {int(row["step"]): float(row["online/kl/mean"]) for row in rows})


def _people_curves(name: str, directory: Path, kl: Mapping[int, float]) -> list[MeasuredCurve]:
    """Return the curve of the rates that the last check of people inside the loop knew; empty without a rate."""
    file = directory / "people" / "checks.jsonl"
    checks: list[Mapping[str, Any]] = [row for _, row in read_rows(file)] if file.is_file() else []
    rates = [rate for rate in checks[-1]["rates"] if rate["iteration"] in kl] if checks else []
    if not rates:
        return []
    values, errors, answers = (np.array([float(rate[each]) for rate in rates]) for each in ("value", "se", "n"))
    labels, kls = tuple(str(rate["iteration"]) for rate in rates), np.array([kl[rate["iteration"]] for rate in rates])
    return [MeasuredCurve(name, "people", "rl", "iteration", labels, kls, values, np.diag(pooled_variances(errors, answers)), None, EVEN)]


def _rerank_curves(name: str, directory: Path) -> list[MeasuredCurve]:
    """Return the curves of a rerank run over n. Every n uses the same samples, so errors are those between prompts."""
    file = directory / "curve.jsonl"
    if not file.is_file():
        raise DataError(f"{directory} has no curve.jsonl: it is not finished, or an older version wrote it. Run rerank again.")
    summary: Any = read_json(directory / "summary.json")
    rows: list[Any] = [row for _, row in read_rows(file)]
    labels, kl = tuple(f"{n:g}" for n in summary["curve"]["n"]), np.array(summary["curve"]["kl_at_most"], dtype=np.float64)
    tables = {measure: np.array([row[key] for row in rows], dtype=np.float64) for measure, key in OTHERS.items() if key in rows[0]}
    return [_of_prompts(name, measure, "best_of_n", "n", labels, kl, table) for measure, table in tables.items()]


def _evaluated_curves(models: Sequence[EvaluatedModel]) -> list[MeasuredCurve]:
    """Return the curves over evaluated models, in order of their KL, on the prompts for which the figures of all are known."""
    curves = []
    for measure, key in OTHERS.items():
        having = [model for model in models if model.has(key) and model.has("kl")]
        if not having:
            continue
        own = [{id(other): row for row, other in matched(model.rows, having[0].rows)} for model in having]
        shared = [id(row) for row in having[0].rows if all(_is_measured(table.get(id(row)), key) for table in own)]
        if not shared:
            raise DataError(
                f"{', '.join(model.key for model in having)}: no prompt has {key} and KL of all. Evaluate all on the same prompts."
            )
        kl = np.array([np.mean([float(table[at]["kl"]) for at in shared]) for table in own])
        table = np.array([[float(each[at][key]) for each in own] for at in shared])
        order = np.argsort(kl, kind="stable")
        labels = tuple(having[k].key for k in order)
        curves.append(_of_prompts("evaluated models", measure, "rl", "model", labels, kl[order], table[:, order]))
    if not curves:
        names = ", ".join(model.directory for model in models)
        raise DataError(f"{names}: no score or gold together with a KL. Set `reference`, and `gold` or `reward`, in evaluate.")
    return curves


def _is_measured(row: Mapping[str, Any] | None, key: str) -> bool:
    return row is not None and is_known(row, key) and is_known(row, "kl")


def _of_prompts(
    run: str, measure: str, form: Form, axis: Literal["n", "model"], labels: tuple[str, ...], kl: Floats, table: Floats
) -> MeasuredCurve:
    """Return the curve of a table (prompts, n) whose points share their prompts."""
    prompts = len(table)
    covariance = np.cov(table, rowvar=False).reshape(len(kl), len(kl)) / prompts if prompts > 1 else None
    if covariance is not None and not (np.diag(covariance) > 0).all():
        covariance = None
    return MeasuredCurve(run, measure, form, axis, labels, kl, table.mean(0), covariance, prompts)  # type: ignore[arg-type]

"""A sweep over KL strengths: runs that differ in the KL coefficient become one frontier of gold, or a held-out score, against the KL."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from palate.agreement.estimates import from_normal
from palate.core import ConfigError, DataError
from palate.data.jsonl import read_rows
from palate.evaluation.evaluated_model import EvaluatedModel, is_known, matched, read_evaluated
from palate.evaluation.intervals import Estimate, mean, paired_difference
from palate.evaluation.report.lever_records import KLSweep, SweepPoint, SweepScore
from palate.evaluation.report_sections import first_kl_coef
from palate.evaluation.trained_against import is_scored_by_its_teacher
from palate.runs.record import RunRecord, ancestry, changes, read_record

GOLD, HELD_OUT, PROXY = "gold", "held_out_score", "score"
"""Figures of a run: the truth, the score of a reward model that trained no run, and that of the one that trained all."""

NAMES = {GOLD: "gold", HELD_OUT: "held-out score", PROXY: "held-out score"}
"""What the page calls the measure. The score of `reward` is one only where it trained no run."""

WORDS = {"pretraining": "texts learned beside the rewards"}
"""Settings whose names say little to who did not train the model."""


@dataclass(frozen=True)
class _Measured:
    """What the runs of a sweep measured.

    Attributes:
        measure: the figure that no run was trained on.
        kl: each run's KL, nats.
        values: each figure of every run.
        start: the figures of the start, as far as they are known.
        gap: a figure of one run less that of another, by their places.
        over_start: a figure of one run less that of the start.
        how: which completions the figures are of.
    """

    measure: str
    kl: Sequence[Estimate]
    values: Mapping[str, Sequence[Estimate]]
    start: Mapping[str, Estimate]
    gap: Callable[[str, int, int], Estimate]
    over_start: Callable[[str, int], Estimate]
    how: str


def kl_sweep(directories: Sequence[str], start: EvaluatedModel, start_name: str, tuned: str | None = None) -> KLSweep:
    """Read a sweep: online runs, measured on the completions of their last quarter, or evaluate runs of models that online runs made.

    Args:
        directories: the runs.
        start: the evaluated model that all runs start from; online runs have their own first iteration in its place.
        start_name: what the page calls it.
        tuned: the online run that the page calls tuned; None where there is none.

    Raises:
        ConfigError: the runs are of different stages, or two have one coefficient.
        DataError: gold and a held-out score are missing.
    """
    paths = [Path(directory) for directory in directories]
    stages = {None if (record := read_record(path)) is None else record.stage for path in paths}
    if len(stages) > 1 or not stages <= {"online", "evaluate"}:
        raise ConfigError("sweep: give online runs alone, or evaluate runs of their models alone")
    trained = paths if stages == {"online"} else [_trained_by(path) for path in paths]
    measured = _of_online(paths) if stages == {"online"} else _of_evaluated(paths, start)
    coefficients = [first_kl_coef(path) for path in trained]
    twice = next((one for one in coefficients if coefficients.count(one) > 1), None)
    if twice is not None:
        raise ConfigError(f"sweep: two of the runs have the KL coefficient {twice:g}. Give runs that differ in it")
    values = measured.values[measured.measure]
    best = max(range(len(paths)), key=lambda k: values[k].value)
    records = [_recorded(path) for path in trained]
    chosen = None if tuned is None else _recorded(Path(tuned)).key

    def below_best(figure: str, k: int) -> Estimate | None:
        return None if k == best else _allowing_for_choice(measured.gap(figure, k, best), len(paths))

    def score(figure: str, k: int) -> SweepScore | None:
        if figure == measured.measure or figure not in measured.values:
            return None
        return SweepScore(measured.values[figure][k], below_best(figure, k))

    points = [
        SweepPoint(
            coefficients[k],
            measured.kl[k],
            value,
            measured.over_start(measured.measure, k) if measured.measure in measured.start else None,
            below_best(measured.measure, k),
            score(PROXY, k),
            score(HELD_OUT, k),
            records[k].name,
            other_settings(records[k], records[best]),
            records[k].key == chosen,
        )
        for k, value in enumerate(values)
    ]
    named = start_name if stages == {"evaluate"} else "the start"
    scores = [measured.start.get(figure) if figure != measured.measure else None for figure in (PROXY, HELD_OUT)]
    in_order = tuple(sorted(points, key=lambda point: point.coefficient))
    return KLSweep(NAMES[measured.measure], in_order, measured.start.get(measured.measure), named, measured.how, *scores)


def other_settings(own: RunRecord, other: RunRecord) -> tuple[str, ...]:
    """Return in words where one online run differs from another, beside how the KL is paid for; () where nowhere."""
    inputs = {parent.field for parent in (*own.parents, *other.parents)}
    return tuple(
        _difference(at, here, there, is_input=at in inputs)
        for at, (here, there) in changes(own.identity, other.identity).items()
        if not at.startswith("kl.control")
    )


def _difference(setting: str, here: object, there: object, *, is_input: bool) -> str:
    name = WORDS.get(setting, setting.replace("_", " ").replace(".", " "))
    if here is None or there is None:
        return f"{'no' if here is None else 'with'} {name}"
    if is_input or not all(isinstance(one, int | float | str) for one in (here, there)):
        return f"another {name}"
    is_count = isinstance(here, int) and setting != "seed"
    return f"{here} {name} instead of {there}" if is_count else f"{name} {here} instead of {there}"


def _of_online(directories: Sequence[Path]) -> _Measured:
    runs: list[list[Mapping[str, Any]]] = [[row for _, row in read_rows(path / "metrics.jsonl")] for path in directories]
    known = [figure for figure in (GOLD, HELD_OUT, PROXY) if all(any(f"online/{figure}/mean" in row for row in rows) for rows in runs)]
    if not known or known[0] == PROXY:
        raise DataError("sweep: not all runs measured gold, nor a held-out score. Set gold, or held_out.reward, in online")
    lasts = [[row for row in rows if f"online/{known[0]}/mean" in row][-max(1, len(rows) // 4) :] for rows in runs]
    known = [figure for figure in known if all(f"online/{figure}/mean" in row for rows in lasts for row in rows)]
    values = {figure: [_of_iterations(rows, figure) for rows in lasts] for figure in known}
    start = {figure: _of_iterations(runs[0][:1], figure) for figure in known if f"online/{figure}/mean" in runs[0][0]}
    count = max(len(rows) for rows in lasts)
    return _Measured(
        known[0],
        [mean([float(row["online/kl/mean"]) for row in rows]) for rows in lasts],
        values,
        start,
        lambda figure, k, other: _unpaired(values[figure][k], values[figure][other]),
        lambda figure, k: _unpaired(values[figure][k], start[figure]),
        f"Each point is the last {count} iterations of a run, on prompts that it trained on. The start is the first iteration.",
    )


def _of_iterations(rows: Sequence[Mapping[str, Any]], figure: str) -> Estimate:
    """Return the mean of a metric over iterations, whose errors are independent."""
    errors = [float(row.get(f"online/{figure}/se", math.nan)) for row in rows]
    value = float(np.mean([float(row[f"online/{figure}/mean"]) for row in rows]))
    return from_normal(value, math.sqrt(sum(e * e for e in errors)) / len(errors), len(rows))


def _unpaired(value: Estimate, other: Estimate) -> Estimate:
    return from_normal(value.value - other.value, math.hypot(value.se, other.se), min(value.n, other.n))


def _allowing_for_choice(difference: Estimate, count: int) -> Estimate:
    """Widen the interval of a difference from the best of `count` points, as for so many comparisons (Bonferroni)."""
    reach = NormalDist().inv_cdf(1 - 0.025 / max(1, count - 1)) * difference.se
    return replace(difference, low=difference.value - reach, high=difference.value + reach)


def _of_evaluated(directories: Sequence[Path], start: EvaluatedModel) -> _Measured:
    models = [read_evaluated(path.name, str(path)) for path in directories]
    known = [figure for figure in (GOLD, HELD_OUT, PROXY) if all(model.has(figure) for model in models)]
    if not known or (known[0] == PROXY and any(is_scored_by_its_teacher(path, "reward", "rewards") is not False for path in directories)):
        raise DataError("sweep: not all runs measured gold, or a score that the policy was not trained on. Set gold in evaluate")
    tables = [{id(other): row for row, other in matched(model.rows, models[0].rows)} for model in (*models, start)]
    shared = [
        id(row)
        for row in models[0].rows
        if all(id(row) in table and all(is_known(table[id(row)], one) for one in (*known, "kl")) for table in tables[:-1])
    ]
    if not shared:
        raise DataError("sweep: no prompt has gold and KL of all models. Set reference in evaluate, and evaluate all on the same prompts")
    figures = {one: [[float(table[at][one]) for at in shared] for table in tables[:-1]] for one in (*known, "kl")}
    first = tables[-1]
    begun = {
        one: [float(first[at][one]) for at in shared] for one in known if all(at in first and is_known(first[at], one) for at in shared)
    }
    return _Measured(
        known[0],
        [mean(column) for column in figures["kl"]],
        {one: [mean(column) for column in figures[one]] for one in known},
        {one: mean(column) for one, column in begun.items()},
        lambda figure, k, other: paired_difference(figures[figure][k], figures[figure][other]),
        lambda figure, k: paired_difference(figures[figure][k], begun[figure]),
        f"Each point is one run, measured on {len(shared)} prompts that all runs share. Differences are paired by prompt.",
    )


def _trained_by(directory: Path) -> Path:
    """Return the online run that led to an evaluated model.

    Raises:
        ConfigError: not exactly one online run led to it.
    """
    key = _recorded(directory).key
    online = [home for name, (home, one) in ancestry(directory).items() if name != key and one.stage == "online"]
    if len(online) != 1:
        raise ConfigError(f"sweep: {len(online)} online runs led to the model of {directory}, and one is needed to know its KL coefficient")
    return online[0]


def _recorded(directory: Path) -> RunRecord:
    record = read_record(directory)
    if record is None:
        raise ConfigError(f"sweep: {directory} is not a run, because it has no run.json. Give the directory of a run")
    return record

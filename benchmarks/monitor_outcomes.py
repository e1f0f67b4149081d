"""What Palate said about each planted fault, and the tables of `benchmarks.monitors`."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.kitchen import LazyPipeline
from benchmarks.monitor_pipeline import CLEAN, EXPECTED, FAULTY_RUNS
from palate.data.jsonl import read_rows
from palate.evaluation.intervals import wilson
from palate.training.guards import TABLE, Guards, Watch

WINDOW = 3
"""Iterations of which the mean gold is taken."""

RATED = frozenset(guard.name for guard in TABLE if guard.has_rate)
"""Guards whose rate of false alarms is known."""


@dataclass(frozen=True)
class Outcome:
    """What Palate said about one planted fault on one seed.

    Attributes:
        named: faults that the report names.
        warned: the first iteration at which each guard warned.
        fell: the iteration at which gold was best before it measurably fell; None where it did not fall, or nothing was trained.
    """

    named: tuple[str, ...]
    warned: Mapping[str, int]
    fell: int | None

    def first(self, *, rated: bool) -> int | None:
        """Return the iteration of the first warning, of any guard or of those with a rate. Users have no gold, so its guard is left out."""
        return min((step for guard, step in self.warned.items() if guard != "gold" and (guard in RATED or not rated)), default=None)


def outcome(stages: LazyPipeline, name: str) -> Outcome:
    """Run what a fault needs, and read its report, and the warnings and the gold of its run of training."""
    summary = json.loads((stages.run(f"report-{name}") / "summary.json").read_text(encoding="utf-8"))
    named = tuple(dict.fromkeys(one["fault"] for one in summary["faults"]["found"]))
    if name not in (*FAULTY_RUNS, *CLEAN):
        return Outcome(named, {}, None)
    rows: list[Any] = [row for _, row in read_rows(stages.run(f"run-{name}") / "metrics.jsonl")]
    return Outcome(named, warnings(rows), gold_peak([row["online/gold/mean"] for row in rows], [row["online/gold/se"] for row in rows]))


def warnings(rows: Sequence[Mapping[str, float]]) -> dict[str, int]:
    """Return the first iteration at which each guard warns of these metrics.

    Guards read metrics and change nothing in a run. So runs that were made with other guards serve as well.
    """
    watch, warned = Watch(Guards()), dict[str, int]()
    for row in rows:
        for alarm in watch.look(int(row["step"]), {name: value for name, value in row.items() if name != "step"}):
            warned.setdefault(alarm.guard, alarm.step)
    return warned


def gold_peak(gold: Sequence[float], errors: Sequence[float]) -> int | None:
    """Return the iteration at which gold was best, if it later fell by 3 standard errors; else None.

    Means of three iterations are compared, and the last iteration of the best three counts.
    """
    means = np.convolve(gold, np.full(WINDOW, 1 / WINDOW), "valid")
    variances = np.convolve(np.square(errors), np.full(WINDOW, 1 / WINDOW**2), "valid")
    for last in range(WINDOW, len(means)):
        best = int(np.argmax(means[: last - WINDOW + 1]))
        if means[best] - means[last] > 3 * math.sqrt(variances[best] + variances[last]):
            return best + WINDOW - 1
    return None


def share_text(count: int, n: int) -> str:
    """Return "3 of 4 [0.30, 0.95]", with Wilson's interval."""
    low, high = wilson(count, n)
    return f"{count} of {n} [{low:.2f}, {high:.2f}]"


COLUMNS = (
    "planted",
    "named by the report",
    "other faults named",
    "a guard with a rate warned",
    "any guard warned",
    "guards",
    "first warning of a guard with a rate",
    "gold fell after",
    "lead",
)


def table(outcomes: Sequence[Mapping[str, Outcome]]) -> str:
    """Return two Markdown tables: a row per fault that was planted, and the false alarms of clean runs and reports."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for name, fault in EXPECTED.items():
        own = [one[name] for one in outcomes if name in one]
        if not own:
            continue
        right = sum(fault in one.named for one in own)
        others = dict(Counter(other for one in own for other in one.named if other != fault))
        cells = [name, share_text(right, len(own)), _counts(others), *(_training_cells(own) if name in FAULTY_RUNS else ())]
        lines.append(f"| {' | '.join((*cells, *[''] * (len(COLUMNS) - len(cells))))} |")
    clean = [one[name] for one in outcomes for name in CLEAN]
    lines += ["", "| clean | with an alarm | alarms |", "|---|---|---|"]
    alarms = {
        "reports": [one.named for one in clean],
        "runs: guards with a rate": [tuple(RATED.intersection(one.warned)) for one in clean],
        "runs: all guards": [tuple(one.warned) for one in clean],
    }
    for title, own_alarms in alarms.items():
        counts = _counts(Counter(name for names in own_alarms for name in names))
        lines.append(f"| {title} | {share_text(sum(map(bool, own_alarms)), len(own_alarms))} | {counts} |")
    return "\n".join(lines)


def _training_cells(own: Sequence[Outcome]) -> list[str]:
    """Return what guards said about one planted fault on all seeds: how often, which, when, and how long before gold fell."""
    first = [one.first(rated=True) for one in own]
    leads = [None if one.fell is None or step is None else one.fell - step for one, step in zip(own, first, strict=True)]
    warned = [sum(one.first(rated=rated) is not None for one in own) for rated in (True, False)]
    return [
        *(share_text(count, len(own)) for count in warned),
        _counts(Counter(guard for one in own for guard in one.warned)),
        _numbers(first),
        _numbers([one.fell for one in own]),
        _numbers(leads),
    ]


def _numbers(values: Sequence[int | None]) -> str:
    return ", ".join("-" if value is None else str(value) for value in values)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"

"""Readings: one number from the metrics of all iterations so far, which a guard compares with its limit."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from palate.training.guards.chance import critical

History = Sequence[Mapping[str, float]]
"""The metrics of each iteration so far, the last one last; their names lack the stage."""


@dataclass(frozen=True)
class Now:
    """The metric of the last iteration, or its distance from `target`."""

    metric: str
    target: float | None = None

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics it reads."""
        return (self.metric,)

    def __call__(self, history: History) -> float | None:
        """Return the reading, or None where the iteration has no such metric."""
        value = history[-1].get(self.metric)
        return value if value is None or self.target is None else abs(value - self.target)


@dataclass(frozen=True)
class AgainstStart:
    """The metric of the last iteration, divided by its mean over the first `iterations` that have it.

    With the metric's standard error, named by `error`, a change that may be chance counts as none: the reading is 1.
    """

    metric: str
    error: str | None = None
    iterations: int = 3

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics it reads."""
        return (self.metric,) if self.error is None else (self.metric, self.error)

    def __call__(self, history: History) -> float | None:
        """Return the reading, or None in the first iterations, where the metric is missing, and where it began at 0."""
        rows = _since_start(self.metric, self.iterations, history)
        start = _start(self.metric, self.iterations, rows) if rows else 0.0
        if start <= 0:
            return None
        return rows[-1][self.metric] / start if _is_change(self.metric, self.error, self.iterations, rows) else 1.0


@dataclass(frozen=True)
class RiseSinceStart:
    """The metric of the last iteration, less its mean over the first `iterations` that have it. For shares that may begin at 0.

    A change that may be chance by the metric's standard error, named by `error`, counts as none: the reading is 0.
    """

    metric: str
    error: str
    iterations: int = 3

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics it reads."""
        return (self.metric, self.error)

    def __call__(self, history: History) -> float | None:
        """Return the reading, or None in the first iterations and where the metric is missing."""
        rows = _since_start(self.metric, self.iterations, history)
        if not rows:
            return None
        is_change = _is_change(self.metric, self.error, self.iterations, rows)
        return rows[-1][self.metric] - _start(self.metric, self.iterations, rows) if is_change else 0.0


def _since_start(metric: str, iterations: int, history: History) -> list[Mapping[str, float]]:
    """Return the iterations that have the metric; none in the first iterations, and where the last one lacks it."""
    rows = [row for row in history if metric in row]
    return rows if metric in history[-1] and len(rows) > iterations else []


def _start(metric: str, iterations: int, rows: History) -> float:
    return fmean(row[metric] for row in rows[:iterations])


def _is_change(metric: str, error: str | None, iterations: int, rows: History) -> bool:
    """Return whether the last iteration differs from the first ones by more than chance; True where no error is known.

    Without a change all iterations have the same error, so those that are known are pooled. An iteration has none where it has one prompt,
    or where no prompt differs from another, as where nothing is refused.
    """
    known = [] if error is None else [row[error] ** 2 for row in (*rows[:iterations], rows[-1]) if error in row]
    if not known:
        return True
    change = rows[-1][metric] - _start(metric, iterations, rows)
    return abs(change) > critical(len(rows) - iterations) * math.sqrt(fmean(known) * (1 + 1 / iterations))


TAX_CHANGE = re.compile(r"tax/(?!text_nll_change/)(.+)_change/mean")
"""The change in an eval's mean grade since the start. The loss on texts is left out: it rises for every policy that moves."""


@dataclass(frozen=True)
class LostGrades:
    """The largest loss of grades among the evals that were measured in the last iteration. A loss that may be chance counts as 0.

    The error is that of the questions, so a loss that is shown is one of all such questions. An eval whose answers did not change has
    none, and lost nothing.
    """

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics it reads, with NAME for that of an eval."""
        return ("tax/NAME_change/mean", "tax/NAME_change/se")

    def __call__(self, history: History) -> float | None:
        """Return the reading, or None where the iteration measured no eval, or no eval has an error."""
        return max(self._lost(history).values(), default=None)

    def worst(self, history: History) -> str:
        """Return the name of the eval that the reading is about; "" where there is none."""
        lost = self._lost(history)
        return max(lost, key=lost.__getitem__, default="")

    def _lost(self, history: History) -> dict[str, float]:
        """Return what each eval lost, by its name; without those whose error is not known."""
        measured = _changes(history[-1])
        if not measured:
            return {}
        least = critical(sum(bool(_changes(row)) for row in history), len(measured))
        return {name: -change if -change > least * error else 0.0 for name, (change, error) in measured.items()}


def _changes(row: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Return the change of each eval's grade in an iteration and its standard error, by the eval's name."""
    errors = [(match[1], name, f"{name.removesuffix('mean')}se") for name in row if (match := TAX_CHANGE.fullmatch(name))]
    return {name: (row[change], row[error]) for name, change, error in errors if error in row}


@dataclass(frozen=True)
class Divergence:
    """How far `truth` has fallen below its best while `proxy` has not: over-optimisation (Gao et al. 2022, arXiv 2210.10760).

    The mean over the last `window` iterations is compared with the best such mean before them. The reading is the fall in standard errors
    of the difference, computed from `truth`'s own `/se`. It is 0 while `truth` has not fallen, while the proxy has fallen as well, and
    where the fall may be chance: the best is picked among many.
    """

    proxy: str
    truth: str
    window: int = 4

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics it reads."""
        return (self.proxy, self.truth, self._error)

    @property
    def _error(self) -> str:
        return f"{self.truth.rpartition('/')[0]}/se"

    def __call__(self, history: History) -> float | None:
        """Return the reading, or None before two windows have passed and where the iteration lacks one of the metrics."""
        if any(name not in history[-1] for name in self.metrics):
            return None
        rows = [tuple(row[name] for name in self.metrics) for row in history if all(name in row for name in self.metrics)]
        if len(rows) < 2 * self.window:
            return None
        windows = [rows[k : k + self.window] for k in range(len(rows) - 2 * self.window + 1)]
        last, best = rows[-self.window :], max(windows, key=lambda part: sum(truth for _, truth, _ in part))
        (proxy, truth), (best_proxy, best_truth) = ([fmean(row[k] for row in part) for k in (0, 1)] for part in (last, best))
        error = math.sqrt(sum(row[2] ** 2 for part in (last, best) for row in part)) / self.window
        if proxy < best_proxy or truth >= best_truth or error == 0:
            return 0.0
        fall = (best_truth - truth) / error
        return fall if fall > critical(len(windows), len(windows)) else 0.0


Reading = Now | AgainstStart | RiseSinceStart | LostGrades | Divergence


NGRAM = 4


def repeated_share(ids: Sequence[int], n: int = NGRAM) -> float:
    """Return the share of a completion's `n`-grams that repeat an earlier one: 0 where all differ, near 1 for a loop.

    Args:
        ids: token ids.
        n: tokens per n-gram.

    Returns:
        1 - distinct / all (Welleck et al. 2019, arXiv 1908.04319, seq-rep-n); 0 for a completion shorter than `n`.
    """
    grams = len(ids) - n + 1
    if grams < 1:
        return 0.0
    return 1 - len(set(zip(*(ids[k : k + grams] for k in range(n)), strict=True))) / grams


def repetition(completions: Sequence[Sequence[int]], n: int = NGRAM) -> float:
    """Return the mean of `repeated_share` over completions, which is the metric `repetition/mean`."""
    return fmean(repeated_share(ids, n) for ids in completions)

"""Readings: one number from the metrics of all rounds so far, for a guard to compare with its limit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

History = Sequence[Mapping[str, float]]
"""The metrics of each round so far, the last one last; names without the stage."""


@dataclass(frozen=True)
class Now:
    """The metric in the last round, or its distance from `target`."""

    metric: str
    target: float | None = None

    @property
    def metrics(self) -> tuple[str, ...]:
        """What it reads."""
        return (self.metric,)

    def __call__(self, history: History) -> float | None:
        """The reading; None where the round has no such metric."""
        value = history[-1].get(self.metric)
        return value if value is None or self.target is None else abs(value - self.target)


@dataclass(frozen=True)
class AgainstStart:
    """The metric in the last round, divided by its mean over the first `rounds` that have it."""

    metric: str
    rounds: int = 3

    @property
    def metrics(self) -> tuple[str, ...]:
        """What it reads."""
        return (self.metric,)

    def __call__(self, history: History) -> float | None:
        """The reading; None in the first rounds, where the metric is missing, and where it began at 0."""
        seen = [row[self.metric] for row in history if self.metric in row]
        if self.metric not in history[-1] or len(seen) <= self.rounds:
            return None
        start = fmean(seen[: self.rounds])
        return seen[-1] / start if start > 0 else None


@dataclass(frozen=True)
class Parting:
    """How far `truth` has fallen below its best while `proxy` has not: over-optimisation (Gao et al. 2022, arXiv 2210.10760).

    Means over `window` rounds are compared: the last ones with the best ones before them. The reading is the fall in standard errors of
    the difference, from `truth`'s own `/se`; 0 while nothing fell, or while the proxy fell as well. The best is picked among many, so a
    reading of 2 or 3 comes by chance.
    """

    proxy: str
    truth: str
    window: int = 4

    @property
    def metrics(self) -> tuple[str, ...]:
        """What it reads."""
        return (self.proxy, self.truth, self._error)

    @property
    def _error(self) -> str:
        return f"{self.truth.rpartition('/')[0]}/se"

    def __call__(self, history: History) -> float | None:
        """The reading; None before two windows have passed, and where the round lacks one of the metrics."""
        if any(name not in history[-1] for name in self.metrics):
            return None
        rows = [tuple(row[name] for name in self.metrics) for row in history if all(name in row for name in self.metrics)]
        if len(rows) < 2 * self.window:
            return None
        windows = [rows[k : k + self.window] for k in range(len(rows) - 2 * self.window + 1)]
        now, best = rows[-self.window :], max(windows, key=lambda part: sum(truth for _, truth, _ in part))
        (proxy, truth), (proxy_then, truth_then) = ([fmean(row[k] for row in part) for k in (0, 1)] for part in (now, best))
        error = math.sqrt(sum(row[2] ** 2 for part in (now, best) for row in part)) / self.window
        if proxy < proxy_then or truth >= truth_then or error == 0:
            return 0.0
        return (truth_then - truth) / error


Reading = Now | AgainstStart | Parting

"""How score, reward and gold change through a training run, each change with its own interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from palate.evaluation.intervals import Z95, Estimate
from palate.evaluation.report.training_records import Training, TrainingPoint, TrainingRun


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A training run in three points: where its gold starts, peaks and ends."""

    run: TrainingRun
    start: TrainingPoint
    peak: TrainingPoint
    end: TrainingPoint

    def change(self, first: TrainingPoint, last: TrainingPoint) -> Estimate:
        """Gold at `last` minus gold at `first`, with the SE of two unpaired means (the paired one would be smaller)."""
        return _difference(first.gold, first.gold_se, last.gold, last.gold_se, self.run.n)

    def fall(self) -> Estimate:
        """Gold at the end minus gold at the peak, with an interval that allows for the choice of the peak.

        The highest of k noisy points is above its own mean. So the interval is as wide as for k comparisons (Bonferroni): where gold is
        flat, it excludes zero in at most one run of twenty.
        """
        plain, count = self.change(self.peak, self.end), sum(point.gold is not None for point in self.run.points)
        reach = NormalDist().inv_cdf(1 - 0.025 / max(1, count - 1)) * plain.se
        return Estimate(plain.value, plain.se, plain.value - reach, plain.value + reach, plain.n)


def trajectory(run: TrainingRun) -> Trajectory | None:
    """Sum up the run; None when fewer than two points have gold."""
    scored = [point for point in run.points if point.gold is not None]
    if len(scored) < 2:
        return None
    return Trajectory(run, scored[0], max(scored, key=lambda point: point.gold or 0.0), scored[-1])


def has_gold(training: Training | None) -> bool:
    """Whether any point of any run has gold."""
    return training is not None and any(point.gold is not None for run in training.runs for point in run.points)


def score_change(run: TrainingRun, first: TrainingPoint, last: TrainingPoint) -> Estimate:
    """The reward model's score at `last` minus that at `first`, with the SE of two unpaired means."""
    return _difference(first.proxy, first.proxy_se, last.proxy, last.proxy_se, run.n)


def score_trend(run: TrainingRun) -> Estimate:
    """The mean score of the last quarter of the points minus that of the first quarter.

    Single points are noisy: each is of other prompts. The SE comes from the points' own SEs.
    """
    return _trend(run, lambda point: (point.proxy, point.proxy_se))


def reward_trend(run: TrainingRun) -> Estimate:
    """As `score_trend`, for the reward: what training maximises. It is the score where no reward was recorded."""
    return _trend(run, lambda point: (point.proxy, point.proxy_se) if point.reward is None else (point.reward, point.reward_se))


def _trend(run: TrainingRun, value_of: Callable[[TrainingPoint], tuple[float, float | None]]) -> Estimate:
    count = max(1, len(run.points) // 4)
    ends = [[value_of(point) for point in points] for points in (run.points[:count], run.points[-count:])]
    (first, first_se), (last, last_se) = (_mean(values) for values in ends)
    return _difference(first, first_se, last, last_se, run.n)


def _mean(values: Sequence[tuple[float, float | None]]) -> tuple[float, float | None]:
    """Return the mean of the values and its SE; None for the SE where one of them has none."""
    errors = [se for _, se in values if se is not None]
    se = math.sqrt(sum(e * e for e in errors)) / len(values) if len(errors) == len(values) else None
    return sum(value for value, _ in values) / len(values), se


def _difference(first: float | None, first_se: float | None, last: float | None, last_se: float | None, n: int) -> Estimate:
    """Return last - first. Where an SE is not known, SE and interval are NaN and `n` is 0: the error was measured on nothing."""
    value = (last or 0.0) - (first or 0.0)
    if first_se is None or last_se is None:
        return Estimate(value, math.nan, math.nan, math.nan, 0)
    se = math.hypot(first_se, last_se)
    return Estimate(value, se, value - Z95 * se, value + Z95 * se, n)

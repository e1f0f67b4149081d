"""The learning curve of a reward model's accuracy: a power law with its interval, and how many labels an accuracy needs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from palate.agreement.estimates import Estimate, Floats, from_draws
from palate.core import DataError

RESAMPLES = 1000
FACTORS = (2.0, 4.0, 8.0)

_EXPONENTS = np.geomspace(0.05, 2.0, 60)


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A reward model's accuracy on `pairs` held-out pairs after learning from `labels` judgments."""

    labels: int
    accuracy: float
    pairs: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """The accuracy expected from `labels` judgments, and its gain over the fitted curve at the most labels so far."""

    labels: int
    accuracy: Estimate
    gain: Estimate


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """The fitted curve accuracy(n) = limit - gap n^-exponent, and forecasts from it.

    Attributes:
        measured: the measurements that it is fitted to.
        limit: accuracy with infinitely many labels.
        gap: accuracy missing at one label.
        exponent: how fast the gap closes.
        forecasts: at 2, 4 and 8 times the most labels so far.
        target: the accuracy asked about; by default halfway between the fitted value at the most labels and the limit.
        needed: labels in all to reach the target; infinite where the curve never does.
    """

    measured: tuple[CurvePoint, ...]
    limit: Estimate
    gap: float
    exponent: float
    forecasts: tuple[Forecast, ...]
    target: float
    needed: Estimate

    def sentence(self) -> str:
        """Say what twice the labels are expected to give."""
        next_, most = self.forecasts[0], max(point.labels for point in self.measured)
        value, low, high = (f"{100 * x:+.1f}" for x in (next_.gain.value, next_.gain.low, next_.gain.high))
        text = f"Doubling the labels from {most} to {next_.labels} is expected to give {value} points of accuracy ({low} to {high})."
        if round(next_.gain.low, 3) <= 0:
            text += f" They may also give nothing: {self.measured[-1].pairs} held-out pairs cannot tell."
        return text


def learning_curve(
    measured: tuple[CurvePoint, ...],
    rng: np.random.Generator,
    ceiling: float = 1.0,
    target: float | None = None,
    resamples: int = RESAMPLES,
) -> LearningCurve:
    """Fit the power law by weighted least squares, with percentile intervals from accuracies drawn again.

    The exponent is the best of a grid of 60 from 0.05 to 2. Gap and limit follow for each, with gap >= 0 and limit <= `ceiling`. Draws
    are binomial, with the measured accuracy and number of held-out pairs, and independent: where all models were tested on the same pairs
    the interval is wider than it needs to be. It does not cover other seeds, or a curve that bends later: eight times the labels is a
    guess.

    Args:
        measured: at least three numbers of labels.
        rng: draws the accuracies again.
        ceiling: the best possible accuracy, for example that of `rater_noise_ceiling`.
        target: the accuracy asked about.
        resamples: bootstrap samples.
    """
    labels = np.array([point.labels for point in measured], dtype=np.float64)
    accuracy = np.array([point.accuracy for point in measured])
    pairs = np.array([point.pairs for point in measured], dtype=np.float64)
    if np.unique(labels).size < 3 or labels.min() < 1 or pairs.min() < 1:
        raise DataError("a learning curve needs accuracies at three or more numbers of labels, each on at least one held-out pair")
    if not ((accuracy >= 0) & (accuracy <= 1)).all():
        raise DataError(f"accuracies are shares in [0, 1], got {accuracy.tolist()}")
    weights = pairs / np.maximum(accuracy * (1 - accuracy), 0.25 / np.maximum(pairs, 1))
    draws = rng.binomial(pairs.astype(np.int64), accuracy, size=(resamples, labels.size)) / pairs
    limit, gap, exponent = _fitted(labels, np.concatenate([accuracy[None], draws]), weights, ceiling)
    most = float(labels.max())
    fitted = limit - gap * most**-exponent
    forecasts = []
    for factor in FACTORS:
        reached = limit - gap * (factor * most) ** -exponent
        both = (from_draws(float(values[0]), values[1:], labels.size) for values in (reached, reached - fitted))
        forecasts.append(Forecast(round(factor * most), *both))
    goal = float(fitted[0] + limit[0]) / 2 if target is None else target
    needed = _labels_for(goal, limit, gap, exponent)
    low, high = np.quantile(needed[1:], [0.025, 0.975], method="nearest")
    known = Estimate(float(needed[0]), math.nan, float(low), float(high), labels.size)
    whole = from_draws(float(limit[0]), limit[1:], labels.size)
    return LearningCurve(measured, whole, float(gap[0]), float(exponent[0]), tuple(forecasts), goal, known)


def _fitted(labels: Floats, accuracy: Floats, weights: Floats, ceiling: float) -> tuple[Floats, Floats, Floats]:
    """Return (b,) limits, gaps and exponents of the best curve through each row of accuracies (b, points)."""
    best = np.full(len(accuracy), np.inf)
    fits = np.zeros((3, len(accuracy)))
    total = weights.sum()
    means = accuracy @ weights / total
    for exponent in _EXPONENTS:
        x = labels**-exponent
        centre = float(x @ weights / total)
        slope = (accuracy - means[:, None]) @ (weights * (x - centre)) / float(weights @ (x - centre) ** 2)
        gap = np.maximum(-slope, 0.0)
        limit = means + gap * centre
        over = limit > ceiling
        held = np.maximum((ceiling - accuracy) @ (weights * x) / float(weights @ x**2), 0.0)
        limit, gap = np.where(over, ceiling, limit), np.where(over, held, gap)
        misses = ((accuracy - limit[:, None] + gap[:, None] * x) ** 2) @ weights
        better = misses < best
        best = np.where(better, misses, best)
        fits = np.where(better, np.stack([limit, gap, np.full_like(gap, exponent)]), fits)
    return fits[0], fits[1], fits[2]


def _labels_for(goal: float, limit: Floats, gap: Floats, exponent: Floats) -> Floats:
    """Return (b,) labels at which each curve reaches the goal; infinite where it never does."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        labels = (gap / (limit - goal)) ** (1 / exponent)
    return np.where(limit - goal > 0, labels, np.inf)

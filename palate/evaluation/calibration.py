"""Accuracy and calibration of a reward model on judged pairs: log loss, reliability bins, expected calibration error, length rules.

A length rule says that the longer (or the shorter) completion wins. A reward model must beat it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from palate.core import DataError
from palate.evaluation.intervals import Estimate, mean, proportion, share

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bin:
    """Units whose prediction is in [low, high), or in the last bin up to 1: mean prediction, and the share that came true."""

    low: float
    high: float
    predicted: float
    observed: Estimate


def pair_accuracy(chosen: ArrayLike, rejected: ArrayLike) -> Estimate:
    """The share of pairs (p,) with the chosen score above the rejected one; exactly equal scores count one half."""
    c, r = _same(chosen, rejected, "chosen and rejected scores")
    return proportion(np.where(c == r, 0.5, (c > r).astype(np.float64)))


def win_probability(chosen: ArrayLike, rejected: ArrayLike) -> Floats:
    """sigma(chosen - rejected) (p,): the Bradley-Terry probability that the chosen one wins."""
    c, r = _same(chosen, rejected, "chosen and rejected scores")
    return np.asarray(0.5 * (1 + np.tanh((c - r) / 2)), dtype=np.float64)


def pair_log_loss(chosen: ArrayLike, rejected: ArrayLike, probability: ArrayLike | None = None) -> Estimate:
    """Mean of -[q log p + (1 - q) log(1 - p)] in nats over pairs, p = sigma(chosen - rejected), q the soft label (1 when None).

    Computed from the score difference by softplus, so large differences stay finite. A coin flip has log 2 = 0.693.
    """
    c, r = _same(chosen, rejected, "chosen and rejected scores")
    q = np.ones_like(c) if probability is None else _same(c, probability, "scores and probabilities")[1]
    return mean(np.logaddexp(0, -(c - r)) * q + np.logaddexp(0, c - r) * (1 - q))


def pair_brier(chosen: ArrayLike, rejected: ArrayLike, observed: ArrayLike) -> Estimate:
    """Mean over pairs of (p - q)^2 with p = sigma(chosen - rejected) and q the share of votes for the chosen side (Brier 1950).

    A model that knows nothing predicts one half, and its score is the mean of (1/2 - q)^2. With few votes on a pair no model reaches 0.
    """
    predicted = win_probability(chosen, rejected)
    return mean(np.square(predicted - _same(predicted, observed, "predictions and shares")[1]))


def reliability(predicted: ArrayLike, observed: ArrayLike, *, bins: int = 10) -> tuple[Bin, ...]:
    """Equal-width bins of `predicted` in [0, 1] with the share of `observed` (0, 1, or 0.5 for a tie); empty bins are left out.

    For pairs, do not predict for "chosen" alone, which always came true. Use `as_shown` or `calibration_bins`.
    """
    p, y = _same(predicted, observed, "predictions and outcomes")
    if bins < 1 or p.min() < 0 or p.max() > 1 or y.min() < 0 or y.max() > 1:
        raise DataError("Reliability needs bins >= 1 and predictions and outcomes inside [0, 1]; give probabilities, not scores.")
    index = np.minimum((p * bins).astype(int), bins - 1)
    filled = []
    for k in range(bins):
        inside = index == k
        count = int(inside.sum())
        if count:
            filled.append(Bin(k / bins, (k + 1) / bins, float(p[inside].mean()), share(float(y[inside].sum()), count)))
    return tuple(filled)


def as_shown(chosen: ArrayLike, rejected: ArrayLike, *, seed: int) -> tuple[Floats, Floats]:
    """(predicted, observed) for a random side of each pair: what a calibration plot of pairs needs.

    A fair coin decides the side of each pair, so half of the outcomes are 0 and the plot covers [0, 1].
    """
    p = win_probability(chosen, rejected)
    is_chosen = np.random.default_rng(seed).random(p.size) < 0.5
    return np.where(is_chosen, p, 1 - p), is_chosen.astype(np.float64)


def vote_agreement(difference: ArrayLike, observed: ArrayLike) -> Floats:
    """Return the share of votes (p,) that the signs of score differences (p,) agree with; a difference of 0 counts one half.

    `observed` (p,) is the share of votes for the chosen side, a tie one half.
    """
    votes, right = np.asarray(observed, dtype=np.float64), (1 + np.sign(difference)) / 2
    return np.asarray(right * votes + (1 - right) * (1 - votes), dtype=np.float64)


def calibration_bins(rows: Sequence[Mapping[str, Any]], bins: int = 10) -> tuple[Bin, ...]:
    """Return reliability bins of a reward model's predictions (see `reward_model.predictions`) against the votes.

    "Chosen" won by construction. Each pair is therefore predicted for its longer side, or for "chosen" where lengths are equal.
    """
    names = ("chosen", "rejected", "observed", "chosen_tokens", "rejected_tokens")
    chosen, rejected, observed, *lengths = (np.array([float(row[name]) for row in rows]) for name in names)
    turn = np.where(lengths[0] < lengths[1], -1.0, 1.0)
    predicted, won = win_probability(turn * (chosen - rejected), np.zeros(len(rows))), np.where(turn < 0, 1 - observed, observed)
    return reliability(predicted, won, bins=bins)


def expected_calibration_error(bins: tuple[Bin, ...]) -> float:
    """The sum over bins of (n_bin / n) |mean prediction - share observed| (Naeini 2015); grows with few units a bin."""
    total = sum(b.observed.n for b in bins)
    if total == 0:
        raise DataError("The calibration error needs at least one bin. Score some pairs first.")
    return sum(b.observed.n * abs(b.predicted - b.observed.value) for b in bins) / total


@dataclass(frozen=True, slots=True)
class LengthRule:
    """Accuracy of both rules on the same pairs; pairs of equal length count one half in each. They sum to 1."""

    longer_wins: Estimate
    shorter_wins: Estimate
    equal: int

    @property
    def floor(self) -> Estimate:
        """The better of the two rules. It is chosen on the same pairs, so near 1/2 it is a little too high."""
        return max(self.longer_wins, self.shorter_wins, key=lambda rule: rule.value)


def length_rule(chosen: ArrayLike, rejected: ArrayLike) -> LengthRule:
    """Return the accuracy of both rules, from lengths (p,) of the chosen and the rejected completions in one unit, such as tokens."""
    c, r = np.asarray(chosen, dtype=np.float64), np.asarray(rejected, dtype=np.float64)
    return LengthRule(pair_accuracy(c, r), pair_accuracy(r, c), int((c == r).sum()))


def _same(a: ArrayLike, b: ArrayLike, what: str) -> tuple[Floats, Floats]:
    """Both as flat float arrays of one size with finite entries."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or x.size == 0:
        raise DataError(f"The {what} must be two flat lists of one length; got shapes {x.shape} and {y.shape}.")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataError(f"The {what} hold numbers that are not finite. Drop pairs that could not be scored, and count them.")
    return x, y

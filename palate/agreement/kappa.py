"""Kappas of raters, and the accuracy that their noise allows: Cohen's kappa for every two raters, Fleiss' for many, noise ceilings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from palate.agreement.estimates import Floats, Ints
from palate.agreement.votes import Votes, mirrored
from palate.core import DataError

Weights = Literal["none", "linear", "quadratic"]

NEIGHBOURS = 30
"""A vote is paired with at most this many that follow it on the item. Else hidden tests that everybody answers would be most pairs."""


@dataclass(frozen=True, slots=True, eq=False)
class PairKappas:
    """Cohen's kappa of pairs of raters (m,), most common items first.

    Attributes:
        one: number of the one rater.
        other: number of the other.
        items: items that both answered.
        agreement: share of these on which they agree.
        kappa: NaN where undefined.
    """

    one: Ints
    other: Ints
    items: Ints
    agreement: Floats
    kappa: Floats

    def mean(self) -> float:
        """Return the mean of the kappas weighted by common items, without undefined ones; NaN without any. Light's on complete data."""
        known = ~np.isnan(self.kappa)
        return float(self.kappa[known] @ self.items[known] / self.items[known].sum()) if known.any() else math.nan


def cohen_kappa(confusion: Floats, weights: Weights = "none") -> float:
    """Return Cohen's kappa of a confusion matrix (k, k) of counts: 1 - sum w o / sum w e, with w 0 on the diagonal.

    `weights` are 1 off the diagonal, |i - j|, or its square, for answers with an order. NaN when both raters always gave one and the
    same answer (0 / 0). Source: Cohen 1960, 1968.
    """
    return float(_kappas(np.asarray(confusion, dtype=np.float64)[None], weights)[0])


def pair_kappas(votes: Votes, weights: Weights = "none", mirror: Ints | None = None) -> PairKappas:
    """Return Cohen's kappa of every two raters with common items, from their answers to these.

    With a `mirror` (see `Votes.mirror`) chance is that of answers whose sides may have either name, so kappa does not depend on the names.
    """
    ones, others, tables = _confusions(votes)
    tables = mirrored(tables, mirror, axes=(1, 2))
    totals = tables.sum((1, 2))
    same = np.trace(tables, axis1=1, axis2=2) / totals
    order = np.lexsort((others, ones, -totals))
    kappas = _kappas(tables, weights)
    return PairKappas(ones[order], others[order], totals[order].astype(np.int64), same[order], kappas[order])


def fleiss_kappa(counts: Floats, mirror: Ints | None = None) -> float:
    """Return Fleiss' kappa of votes (items, answers): (P - Pe) / (1 - Pe).

    P is the mean over items of the share of agreeing pairs, Pe the sum of squared shares of answers. Fleiss has the same number of raters
    on each item. Where numbers differ, items with fewer than two votes are left out; items weigh alike in P, and votes in Pe.
    With a `mirror` (see `Votes.mirror`) shares of answers are averaged over both names of the sides.
    NaN when all votes have one answer. Source: Fleiss 1971.
    """
    used = counts[counts.sum(1) > 1]
    if not used.size:
        return math.nan
    totals = used.sum(1)
    observed = float(((used * (used - 1)).sum(1) / (totals * (totals - 1))).mean())
    chance = float((mirrored(used.sum(0) / used.sum(), mirror, axes=(0,)) ** 2).sum())
    return (observed - chance) / (1 - chance) if chance < 1 else math.nan


@dataclass(frozen=True, slots=True)
class NoiseCeiling:
    """Agreement of two raters, the error rate it implies, and the best accuracy against one such rater."""

    agreement: float
    error_rate: float
    accuracy: float


def rater_noise_ceiling(agreement: float) -> NoiseCeiling:
    """Return the ceiling for two exchangeable raters who agree on this share of pairs (ties left out).

    Both raters err independently with probability e, so a = (1 - e)^2 + e^2 and e = (1 - sqrt(2a - 1)) / 2. A perfect model agrees
    with one rater at most 1 - e of the time. For an agreement of 1/2 or less, e is 1/2. One error rate is assumed for all pairs: where
    easy and hard pairs are mixed, the true ceiling is lower or equal.
    """
    if not 0 <= agreement <= 1:
        raise DataError(f"Agreement is a share of pairs in [0, 1]; got {agreement}.")
    error = (1 - math.sqrt(max(2 * agreement - 1, 0.0))) / 2
    return NoiseCeiling(agreement, error, 1 - error)


def majority_ceiling(error_rate: float, raters: int) -> float:
    """Return the best accuracy against the majority of an odd number of raters who each err with `error_rate`.

    The sum over k > raters / 2 of C(raters, k) (1 - e)^k e^(raters - k): the chance that the majority is right.
    """
    if raters < 1 or raters % 2 == 0:
        raise DataError(f"A majority needs an odd number of raters; got {raters}.")
    if not 0 <= error_rate <= 0.5:
        raise DataError(f"The error rate of a rater lies in [0, 0.5]; got {error_rate}.")
    right = 1 - error_rate
    return sum(math.comb(raters, k) * right**k * error_rate ** (raters - k) for k in range(raters // 2 + 1, raters + 1))


def _kappas(tables: Floats, weights: Weights) -> Floats:
    """(m,) kappas of confusion matrices (m, k, k)."""
    distance = np.abs(np.subtract.outer(np.arange(tables.shape[1]), np.arange(tables.shape[1]))).astype(np.float64)
    cost = {"none": (distance > 0).astype(np.float64), "linear": distance, "quadratic": distance**2}[weights]
    totals = tables.sum((1, 2))
    expected = tables.sum(2)[:, :, None] * tables.sum(1)[:, None, :] / totals[:, None, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        chance = (expected * cost).sum((1, 2))
        return np.where(chance > 0, 1 - (tables * cost).sum((1, 2)) / chance, np.nan)


def _confusions(votes: Votes) -> tuple[Ints, Ints, Floats]:
    """Raters (m,) and (m,), the lower number first, and their tables of common answers (m, k, k)."""
    order = np.lexsort((votes.rater, votes.item))
    item, rater, answer = votes.item[order], votes.rater[order], votes.answer[order]
    k, r = len(votes.answers), len(votes.raters)
    keys = [np.empty(0, dtype=np.int64)]
    for shift in range(1, NEIGHBOURS + 1):
        both = np.flatnonzero(item[shift:] == item[:-shift])
        if not both.size:
            break
        pair = rater[both] * r + rater[both + shift]
        keys.append((pair * k + answer[both]) * k + answer[both + shift])
    cells, numbers = np.unique(np.concatenate(keys), return_counts=True)
    pairs, row = np.unique(cells // (k * k), return_inverse=True)
    tables = np.zeros((pairs.size, k * k))
    tables[row, cells % (k * k)] = numbers
    return pairs // r, pairs % r, tables.reshape(-1, k, k)

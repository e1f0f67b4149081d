"""Agreement beyond chance of two raters (Cohen's kappa, for every pair of them) and of many (Fleiss')."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from palate.agreement.estimates import Floats, Ints
from palate.agreement.votes import Votes

Weights = Literal["none", "linear", "quadratic"]

NEIGHBOURS = 30
"""Votes on an item are paired with at most so many that follow them: hidden tests answered by everyone would be most pairs there are."""


@dataclass(frozen=True, slots=True, eq=False)
class PairKappas:
    """Cohen's kappa of pairs of raters (m,), most common items first.

    Attributes:
        one: number of the one rater.
        other: number of the other.
        items: items both answered.
        agreement: share of these on which they say the same.
        kappa: NaN where undefined.
    """

    one: Ints
    other: Ints
    items: Ints
    agreement: Floats
    kappa: Floats

    def mean(self) -> float:
        """The kappas' mean weighted by common items, undefined ones left out; NaN without any. For complete data it is Light's kappa."""
        known = ~np.isnan(self.kappa)
        return float(self.kappa[known] @ self.items[known] / self.items[known].sum()) if known.any() else math.nan


def cohen_kappa(confusion: Floats, weights: Weights = "none") -> float:
    """Cohen's kappa of a confusion matrix (k, k) of counts: 1 - sum w o / sum w e, with w 0 on the diagonal.

    `weights`: 1 off the diagonal; |i - j|; or its square, for answers with an order. NaN when both raters gave a single, equal
    answer throughout (0 / 0). Source: Cohen 1960, 1968.
    """
    return float(_kappas(np.asarray(confusion, dtype=np.float64)[None], weights)[0])


def pair_kappas(votes: Votes, weights: Weights = "none") -> PairKappas:
    """Cohen's kappa of every two raters who answered an item in common, of the answers they gave to those."""
    ones, others, tables = _confusions(votes)
    totals = tables.sum((1, 2))
    same = np.trace(tables, axis1=1, axis2=2) / totals
    order = np.lexsort((others, ones, -totals))
    kappas = _kappas(tables, weights)
    return PairKappas(ones[order], others[order], totals[order].astype(np.int64), same[order], kappas[order])


def fleiss_kappa(counts: Floats) -> float:
    """Fleiss' kappa of votes (items, answers): (P - Pe) / (1 - Pe).

    P is the mean over items of the share of agreeing pairs, Pe the sum of squared shares of answers. Fleiss has the same number of raters
    on each item; where numbers differ, items with fewer than two votes are left out, items weigh alike in P and votes in Pe.
    NaN when one answer is all there is. Source: Fleiss 1971.
    """
    used = counts[counts.sum(1) > 1]
    if not used.size:
        return math.nan
    totals = used.sum(1)
    observed = float(((used * (used - 1)).sum(1) / (totals * (totals - 1))).mean())
    chance = float(((used.sum(0) / used.sum()) ** 2).sum())
    return (observed - chance) / (1 - chance) if chance < 1 else math.nan


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

"""What the order shown does to rankings: how often what stands first is ranked first, and how far two orders agree."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from palate.agreement.estimates import Estimate, clustered_share, from_normal
from palate.core import Judgment

Ranks = tuple[tuple[int, ...], ...]
"""Completions by number in tiers, best first."""


@dataclass(frozen=True, slots=True)
class RankingHabits:
    """Habits of a rater who ranked three completions or more, in known orders.

    Attributes:
        rankings: number of rankings, each in one order.
        first_place: share of them that put what is shown first on top; those who share the top share it. `n` counts comparisons.
        chance: the same for a rater whose rankings do not depend on the order: the mean of 1 / K.
        tau: Kendall's tau-b between two orders of a comparison: the mean over its pairs of orders, then over comparisons. 1 says that the
            order changes nothing. None where no comparison was ranked in two orders.
    """

    rankings: int
    first_place: Estimate
    chance: float
    tau: Estimate | None


def ranking_habits(judgments: Iterable[Judgment]) -> RankingHabits | None:
    """Measure the habits in rankings of three completions or more in known orders; None where there are none.

    Raters and dimensions are not mixed within a comparison. A rater's last ranking in an order counts.
    """
    last = {(one.comparison, one.dimension, one.rater, one.order): one for one in judgments if one.order is not None and len(one.order) > 2}
    if not last:
        return None
    said: dict[tuple[str, str, str], list[Judgment]] = defaultdict(list)
    for (comparison, dimension, rater, _), judgment in last.items():
        said[comparison, dimension, rater].append(judgment)
    names = {name: k for k, name in enumerate(dict.fromkeys(comparison for comparison, _, _ in said))}
    first = np.array([_first_place(one) for own in said.values() for one in own])
    cluster = np.array([names[comparison] for (comparison, _, _), own in said.items() for _ in own], dtype=np.int64)
    share = clustered_share(first, cluster)
    chance = math.fsum(1 / sum(map(len, one.ranking)) for own in said.values() for one in own) / first.size
    return RankingHabits(first.size, share, chance, _tau(said))


def kendall_tau(one: Ranks, other: Ranks) -> float:
    """Return Kendall's tau-b of two rankings of the same completions: (concordant - discordant) / sqrt((n - ties) (n - other's ties)).

    n counts pairs. It is 1 for equal rankings, -1 for reversed ones, and NaN where one of them is a tie of all. Source: Kendall 1945.
    """
    above, below = (_tiers_by_number(ranks) for ranks in (one, other))
    agree = here = there = 0
    for i, j in itertools.combinations(sorted(above), 2):
        first, second = (int(np.sign(tiers[i] - tiers[j])) for tiers in (above, below))
        agree += first * second
        here += abs(first)
        there += abs(second)
    return agree / math.sqrt(here * there) if here and there else math.nan


def _tau(said: dict[tuple[str, str, str], list[Judgment]]) -> Estimate | None:
    """Return the mean of tau over comparisons, with its error over comparisons."""
    by_comparison: dict[str, list[float]] = defaultdict(list)
    for (comparison, _, _), own in said.items():
        taus = [kendall_tau(one.tiers, other.tiers) for one, other in itertools.combinations(own, 2)]
        by_comparison[comparison] += [tau for tau in taus if not math.isnan(tau)]
    means = [_mean(taus) for taus in by_comparison.values() if taus]
    if not means:
        return None
    error = float(np.std(means, ddof=1)) / math.sqrt(len(means)) if len(means) > 1 else math.nan
    return from_normal(_mean(means), error, len(means))


def _first_place(judgment: Judgment) -> float:
    top = judgment.ranking[0]
    return 1 / len(top) if 0 in top else 0.0


def _tiers_by_number(ranks: Ranks) -> dict[int, int]:
    return {number: tier for tier, alike in enumerate(ranks) for number in alike}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)

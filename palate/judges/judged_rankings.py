"""Judgments of three completions or more: a ranking per order with a probability for every two places, and the mean over the orders."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial

from palate.core import Comparison, Judgment
from palate.data.jsonl import Row
from palate.judges.judge_views import Judge
from palate.judges.verdicts import RankingReading, smoothed
from palate.raters.answer_shares import answers_by_rater, rater_share

Tiers = tuple[tuple[int, ...], ...]


def ranking_of_judge(
    comparison: Comparison,
    dimension: str,
    judge: Judge,
    order: tuple[int, ...],
    reading: RankingReading,
    share: Callable[[float], float],
) -> Judgment:
    """Return the judgment in one order. Its ranking is that of the expected ranks.

    Args:
        comparison: what was shown.
        dimension: what was asked about.
        judge: the rater.
        order: the completion at each place.
        reading: what the judge said.
        share: turns the judge's probability of two places into the share that counts (clamp and calibration).
    """
    shares = tuple(share(smoothed(one, reading.votes)) for one in reading.shares)
    pairs = dict(zip(itertools.combinations(range(len(order)), 2), shares, strict=True))
    ranking = tiers_of(expected_ranks(len(order), lambda one, other: pairs[one, other]))
    return Judgment(comparison.id, judge.name, ranking, dimension, order, reason=reading.reply, probabilities=shares)


def ranking_rows(comparison: Comparison, dimension: str, judgments: Sequence[Judgment]) -> list[Row]:
    """Return a row of `rankings.jsonl` for each rater: the completions' mean ranks over its orders, and the ranking that follows."""
    rows: list[Row] = []
    for rater, own in answers_by_rater(judgments):
        ranks = expected_ranks(len(comparison.completions), partial(rater_share, own))
        told: Row = {"comparison": comparison.id, "dimension": dimension, "rater": rater, "ranking": [list(t) for t in tiers_of(ranks)]}
        rows.append(told | {"mean_ranks": ranks, "orders": len(own)})
    return rows


def expected_ranks(count: int, share: Callable[[int, int], float]) -> list[float]:
    """Return each completion's expected rank, r_i = 1 + sum_j P(j is better than i): 1 for the best of all, `count` for the worst.

    Args:
        count: number of completions.
        share: how likely completion `one` is better than `other`, for one < other.
    """
    ranks = [1.0] * count
    for one, other in itertools.combinations(range(count), 2):
        probability = share(one, other)
        ranks[one] += 1 - probability
        ranks[other] += probability
    return ranks


def tiers_of(ranks: Sequence[float]) -> Tiers:
    """Return the completions' numbers by ascending rank; those whose ranks are equal up to rounding share a tier."""
    tiers: list[list[int]] = []
    for number in sorted(range(len(ranks)), key=ranks.__getitem__):
        if tiers and math.isclose(ranks[number], ranks[tiers[-1][0]], rel_tol=0.0, abs_tol=1e-9):
            tiers[-1].append(number)
        else:
            tiers.append([number])
    return tuple(tuple(sorted(tier)) for tier in tiers)

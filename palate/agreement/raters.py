"""Each rater on their own: how right on hidden tests, how much like the others, how fast, leaning to which side, and who is guessing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from palate.agreement.dawid_skene import dawid_skene
from palate.agreement.estimates import Estimate, Flags, Floats, Ints, wilson
from palate.agreement.vote_table import VoteTable

LEAST = 10
"""Shared comparisons below which nothing is said about guessing."""


@dataclass(frozen=True, slots=True)
class RaterReport:
    """What is known of one rater; None where nothing is.

    Attributes:
        rater: the name.
        votes: votes cast, those on hidden tests among them, as in `seconds`; nothing else but `gold` is of these.
        gold: share of hidden tests answered right, with Wilson's interval.
        agreement: mean share of an item's other raters who say the same, over the items shared with others; Wilson's interval, its n the
            comparisons (the pairs of a ranking are one).
        expected: what that agreement would be for answers at random, in the shares in which this rater gives answers.
        reliability: probability of the true answer in the one-coin model of Dawid and Skene.
        first_shown: share of decided votes for what was shown first, Wilson's interval.
        ties: share of ties.
        seconds: median time a vote.
        is_guessing: agreement cannot be told from `expected`, though the crowd agrees better: see `guessing`.
    """

    rater: str
    votes: int
    gold: Estimate | None
    agreement: Estimate | None
    expected: float | None
    reliability: float
    first_shown: Estimate | None
    ties: float
    seconds: float | None
    is_guessing: bool


@dataclass(frozen=True, slots=True)
class Pace:
    """Time spent on a vote, in seconds: quartiles and the 95 % point, over the `votes` that tell it."""

    votes: int
    quarter: float
    median: float
    three_quarters: float
    p95: float


def pace(seconds: Floats) -> Pace | None:
    """Quantiles of the times that are known; None without any."""
    known = seconds[~np.isnan(seconds)]
    if not known.size:
        return None
    quarter, median, three, p95 = (float(q) for q in np.quantile(known, [0.25, 0.5, 0.75, 0.95]))
    return Pace(int(known.size), quarter, median, three, p95)


def gold_accuracy(table: VoteTable) -> tuple[Estimate | None, ...]:
    """For each rater the share of hidden tests answered right, with Wilson's interval; None for those who saw none."""
    gold = table.gold[table.votes.item]
    return _shares(table, gold >= 0, (table.votes.answer == gold).astype(np.float64))


def agreement_with_others(table: VoteTable) -> tuple[Floats, Flags, Floats]:
    """For each vote the share of the item's other raters who say the same, and whether there is one; for each rater what chance gives.

    Chance is the rater's own shares of answers times those of the others on the same items: alpha's and kappa's idea of it.
    """
    votes = table.votes
    counts = votes.counts()
    others = counts[votes.item]
    others[np.arange(len(votes)), votes.answer] -= 1
    totals = others.sum(1)
    shared = totals > 0
    others = others / np.maximum(totals, 1)[:, None]
    raters, k = len(votes.raters), len(votes.answers)
    same = np.where(shared, others[np.arange(len(votes)), votes.answer], 0.0)
    n = np.bincount(votes.rater, shared, raters)
    own = np.stack([np.bincount(votes.rater, shared & (votes.answer == a), raters) for a in range(k)], axis=1)
    theirs = np.stack([np.bincount(votes.rater, np.where(shared, others[:, a], 0.0), raters) for a in range(k)], axis=1)
    chance = (own * theirs).sum(1) / np.maximum(n, 1) ** 2
    return same, shared, np.asarray(chance)


def guessing(agreement: Estimate, expected: float, crowd: float) -> bool:
    """True when the interval holds what chance gives, or lies below it, and lies below the crowd's agreement.

    Never with fewer than ten shared comparisons.
    """
    return agreement.n >= LEAST and agreement.low <= expected and agreement.high < crowd


def rater_reports(table: VoteTable) -> tuple[RaterReport, ...]:
    """A report of each rater, by votes cast."""
    gold = gold_accuracy(table)
    raters = len(table.votes.raters)
    cast = np.bincount(table.votes.rater, minlength=raters)
    times = _medians(table.votes.rater, table.seconds, raters)
    table = table.without_tests()
    votes = table.votes
    same, shared, chance = agreement_with_others(table)
    crowd = float(same.sum() / max(shared.sum(), 1))
    agrees = _shares(table, shared, same)
    decided = (votes.answer != 1) & (table.shown >= 0)
    first = _shares(table, decided, (votes.answer == 2 * table.shown).astype(np.float64))
    ties = np.bincount(votes.rater, votes.answer == 1, raters) / np.maximum(np.bincount(votes.rater, minlength=raters), 1)
    reliability = dawid_skene(votes, "one_coin").accuracy() if len(votes) else np.zeros(raters)
    found = []
    for k in np.argsort(-cast, kind="stable"):
        agreement = agrees[k]
        found.append(
            RaterReport(
                rater=votes.raters[k],
                votes=int(cast[k]),
                gold=gold[k],
                agreement=agreement,
                expected=None if agreement is None else float(chance[k]),
                reliability=float(reliability[k]),
                first_shown=first[k],
                ties=float(ties[k]),
                seconds=None if math.isnan(times[k]) else float(times[k]),
                is_guessing=agreement is not None and guessing(agreement, float(chance[k]), crowd),
            )
        )
    return tuple(found)


def _shares(table: VoteTable, asked: Flags, values: Floats) -> tuple[Estimate | None, ...]:
    """For each rater the mean of the values (n,) of the votes `asked`, which lie in [0, 1]; None without any. `n` counts comparisons.

    The interval is Wilson's with as many votes as would have the same error if each stood by itself: those of a comparison go together.
    That number lies between the comparisons and the votes; it is the votes themselves where every comparison has one.
    """
    raters, comparisons = len(table.votes.raters), int(table.comparison.max(initial=0)) + 1
    rater, values = table.votes.rater[asked], values[asked]
    num = np.bincount(rater, minlength=raters)
    mean = np.bincount(rater, values, raters) / np.maximum(num, 1)
    both, row = np.unique(rater * comparisons + table.comparison[table.votes.item[asked]], return_inverse=True)
    parts = np.bincount(row, values - mean[rater], both.size)
    groups = np.bincount(both // comparisons, minlength=raters)
    spread = np.bincount(both // comparisons, parts**2, raters) * groups / np.maximum(groups - 1, 1)
    alone = mean * (1 - mean) * np.maximum(num, 1)  # the same sum, were all votes independent
    with np.errstate(invalid="ignore", divide="ignore"):
        worth = np.where(groups > 1, num * alone / spread, np.nan)
    worth = np.clip(np.where(np.isnan(worth), groups, worth), groups, num)
    found: list[Estimate | None] = []
    for value, size, n in zip(mean.tolist(), worth.tolist(), groups.tolist(), strict=True):
        found.append(Estimate(value, math.sqrt(value * (1 - value) / size), *wilson(value * size, size), n) if n else None)
    return tuple(found)


def _medians(group: Ints, values: Floats, groups: int) -> Floats:
    """(groups,) medians of the values that are known; NaN without any."""
    known = ~np.isnan(values)
    group, values = group[known], values[known]
    order = np.lexsort((values, group))
    group, values = group[order], values[order]
    starts, ends = np.searchsorted(group, np.arange(groups)), np.searchsorted(group, np.arange(groups), side="right")
    found = np.full(groups, np.nan)
    some = ends > starts
    low, high = (starts + ends - 1) // 2, (starts + ends) // 2
    found[some] = (values[low[some]] + values[high[some]]) / 2
    return found

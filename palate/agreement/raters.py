"""A report on each rater: accuracy on hidden tests, agreement with others, speed, preferred side, and whether the rater is guessing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from palate.agreement.dawid_skene import dawid_skene
from palate.agreement.estimates import Estimate, Flags, Floats, Ints, clustered_share, wilson
from palate.agreement.vote_table import VoteTable
from palate.agreement.votes import mirrored

MIN_SHARED = 10
"""With fewer shared comparisons no rater is said to guess."""


@dataclass(frozen=True, slots=True)
class RaterReport:
    """The figures of one rater. None where one is not known.

    Attributes:
        rater: the name.
        votes: votes cast, with those on hidden tests. Only `seconds` and `gold` count hidden tests too.
        gold: share of hidden tests with the right answer, with Wilson's interval.
        agreement: mean share of an item's other raters who agree, over the items shared with others. The interval is Wilson's; its n counts
            comparisons, and the pairs of a ranking are one.
        expected: that agreement for random answers, in the shares in which this rater gives answers.
        reliability: probability of the true answer in the one-coin model of Dawid and Skene.
        first_shown: share of decided answers for the side shown first, with Wilson's interval. Answers that were given again count too.
        ties: share of ties.
        seconds: median time per vote.
        is_guessing: agreement cannot be told from `expected`, though the pool of raters agrees better; see `guessing`.
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
    """Time spent on a vote, in seconds: quartiles and the 95 % point, over the `votes` whose time is known."""

    votes: int
    quarter: float
    median: float
    three_quarters: float
    p95: float


@dataclass(frozen=True, slots=True)
class SelfConsistency:
    """Whether raters say the same when they answer a pair again.

    Attributes:
        earlier: votes that were answered again. They do not count as votes of agreement, the last ones do.
        same: share of them after which the rater gave the same answer.
        turned: the same for those that were shown the other way round the next time, so that a habit of sides shows. None without any.
    """

    earlier: int
    same: Estimate
    turned: Estimate | None


def self_consistency(table: VoteTable) -> SelfConsistency | None:
    """Return how often raters repeat their own answer to an item; None if nobody answered one again."""
    old = table.earlier
    if not old.item.size:
        return None
    same, cluster = (old.answer == old.next_answer).astype(np.float64), table.comparison[old.item]
    turned = (old.shown >= 0) & (old.next_shown >= 0) & (old.shown != old.next_shown)
    of_turned = clustered_share(same[turned], cluster[turned]) if turned.any() else None
    return SelfConsistency(int(old.item.size), clustered_share(same, cluster), of_turned)


def pace(seconds: Floats) -> Pace | None:
    """Return quantiles of the known times; None without any."""
    known = seconds[~np.isnan(seconds)]
    if not known.size:
        return None
    quarter, median, three, p95 = (float(q) for q in np.quantile(known, [0.25, 0.5, 0.75, 0.95]))
    return Pace(int(known.size), quarter, median, three, p95)


def gold_accuracy(table: VoteTable) -> tuple[Estimate | None, ...]:
    """Return each rater's share of hidden tests with the right answer, with Wilson's interval; None for those who saw none."""
    gold = table.gold[table.votes.item]
    return _shares(table, gold >= 0, (table.votes.answer == gold).astype(np.float64))


def agreement_with_others(table: VoteTable) -> tuple[Floats, Flags, Floats]:
    """Return for each vote the share of the item's other raters who agree, and whether there are any; for each rater the chance agreement.

    Chance agreement is the rater's own shares of answers times those of the others on the same items, as in alpha and kappa. Shares are
    averaged over both names of an item's sides.
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
    sides = (mirrored(shares.astype(np.float64), votes.mirror, axes=(1,)) for shares in (own, theirs))
    chance = np.prod(list(sides), axis=0).sum(1) / np.maximum(n, 1) ** 2
    return same, shared, np.asarray(chance)


def guessing(agreement: Estimate, expected: float, pool: float) -> bool:
    """Return whether the interval contains chance agreement or lies below it, and lies below the agreement of the whole pool.

    It is False with fewer than ten shared comparisons.
    """
    return agreement.n >= MIN_SHARED and agreement.low <= expected and agreement.high < pool


def rater_reports(table: VoteTable) -> tuple[RaterReport, ...]:
    """Report on each rater with a name, most votes first."""
    gold = gold_accuracy(table)
    raters = len(table.votes.raters)
    cast = np.bincount(table.votes.rater, minlength=raters)
    times = _medians(table.votes.rater, table.seconds, raters)
    table = table.without_tests()
    votes = table.votes
    same, shared, chance = agreement_with_others(table)
    pool = float(same.sum() / max(shared.sum(), 1))
    agrees = _shares(table, shared, same)
    every = table.with_earlier()
    decided = ~every.votes.is_tie & (every.shown >= 0)
    first = _shares(every, decided, (every.votes.answer == 2 * every.shown).astype(np.float64))
    ties = np.bincount(votes.rater, votes.is_tie, raters) / np.maximum(np.bincount(votes.rater, minlength=raters), 1)
    reliability = dawid_skene(votes, "one_coin", mirror=votes.mirror).accuracy() if len(votes) else np.zeros(raters)
    reports = []
    for k in np.argsort(-cast, kind="stable"):
        if k in table.anonymous:
            continue
        agreement = agrees[k]
        reports.append(
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
                is_guessing=agreement is not None and guessing(agreement, float(chance[k]), pool),
            )
        )
    return tuple(reports)


def _shares(table: VoteTable, counted: Flags, values: Floats) -> tuple[Estimate | None, ...]:
    """Return each rater's mean of values (n,) in [0, 1] over the votes that are `counted`; None without any. `n` counts comparisons.

    The interval is Wilson's, with the number of independent votes that would have the same error, as those of a comparison go together.
    That number lies between the comparisons and the votes. It is the votes where every comparison has one.
    """
    raters, comparisons = len(table.votes.raters), int(table.comparison.max(initial=0)) + 1
    rater, values = table.votes.rater[counted], values[counted]
    num = np.bincount(rater, minlength=raters)
    mean = np.bincount(rater, values, raters) / np.maximum(num, 1)
    both, row = np.unique(rater * comparisons + table.comparison[table.votes.item[counted]], return_inverse=True)
    parts = np.bincount(row, values - mean[rater], both.size)
    groups = np.bincount(both // comparisons, minlength=raters)
    spread = np.bincount(both // comparisons, parts**2, raters) * groups / np.maximum(groups - 1, 1)
    alone = mean * (1 - mean) * np.maximum(num, 1)  # the same sum if all votes were independent
    with np.errstate(invalid="ignore", divide="ignore"):
        worth = np.where(groups > 1, num * alone / spread, np.nan)
    worth = np.clip(np.where(np.isnan(worth), groups, worth), groups, num)
    estimates: list[Estimate | None] = []
    for value, size, n in zip(mean.tolist(), worth.tolist(), groups.tolist(), strict=True):
        estimates.append(Estimate(value, math.sqrt(value * (1 - value) / size), *wilson(value * size, size), n) if n else None)
    return tuple(estimates)


def _medians(group: Ints, values: Floats, groups: int) -> Floats:
    """Return (groups,) medians of the known values; NaN without any."""
    known = ~np.isnan(values)
    group, values = group[known], values[known]
    order = np.lexsort((values, group))
    group, values = group[order], values[order]
    starts, ends = np.searchsorted(group, np.arange(groups)), np.searchsorted(group, np.arange(groups), side="right")
    medians = np.full(groups, np.nan)
    filled = ends > starts
    low, high = (starts + ends - 1) // 2, (starts + ends) // 2
    medians[filled] = (values[low[filled]] + values[high[filled]]) / 2
    return medians

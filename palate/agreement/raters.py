"""Each rater on their own: how right on hidden tests, how much like the others, how fast, leaning to which side, and who is guessing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from palate.agreement.dawid_skene import dawid_skene
from palate.agreement.estimates import Estimate, Flags, Floats, Ints, share
from palate.agreement.survey import Survey

LEAST = 10
"""Shared votes below which nothing is said about guessing."""


@dataclass(frozen=True, slots=True)
class RaterReport:
    """What is known of one rater; None where nothing is.

    Attributes:
        rater: the name.
        votes: votes cast.
        gold: share of hidden tests answered right, with Wilson's interval.
        agreement: mean share of an item's other raters who say the same, over the items shared with others; Wilson's interval.
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


def gold_accuracy(survey: Survey) -> tuple[Estimate | None, ...]:
    """For each rater the share of hidden tests answered right, with Wilson's interval; None for those who saw none."""
    right, asked = _by_rater(survey, survey.gold[survey.votes.item] >= 0, survey.votes.answer == survey.gold[survey.votes.item])
    return tuple(share(float(r), int(n)) if n else None for r, n in zip(right, asked, strict=True))


def agreement_with_others(survey: Survey) -> tuple[Floats, Ints, Floats]:
    """For each rater: summed shares of the other raters of an item who say the same, the items shared, and what chance would give.

    Chance is the rater's own shares of answers times those of the others on the same items: alpha's and kappa's idea of it.
    """
    votes = survey.votes
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
    return np.bincount(votes.rater, same, raters).astype(np.float64), n.astype(np.int64), np.asarray(chance)


def guessing(agreement: Estimate, expected: float, crowd: float, votes: int) -> bool:
    """True when the interval holds what chance gives, or lies below it, and lies below the crowd's agreement.

    Never with fewer than ten shared votes.
    """
    return votes >= LEAST and agreement.low <= expected and agreement.high < crowd


def rater_reports(survey: Survey) -> tuple[RaterReport, ...]:
    """A report of each rater, by votes cast."""
    votes = survey.votes
    raters = len(votes.raters)
    cast = np.bincount(votes.rater, minlength=raters)
    gold = gold_accuracy(survey)
    same, n, chance = agreement_with_others(survey)
    crowd = float(same.sum() / max(n.sum(), 1))
    decided = (votes.answer != 1) & (survey.shown >= 0)
    won, told = _by_rater(survey, decided, votes.answer == 2 * survey.shown)
    ties = np.bincount(votes.rater, votes.answer == 1, raters) / np.maximum(cast, 1)
    times = _medians(votes.rater, survey.seconds, raters)
    reliability = dawid_skene(votes, "one_coin").accuracy() if len(votes) else np.zeros(raters)
    found = []
    for k in np.argsort(-cast, kind="stable"):
        agreement = share(float(same[k]), int(n[k])) if n[k] else None
        found.append(
            RaterReport(
                rater=votes.raters[k],
                votes=int(cast[k]),
                gold=gold[k],
                agreement=agreement,
                expected=float(chance[k]) if n[k] else None,
                reliability=float(reliability[k]),
                first_shown=share(float(won[k]), int(told[k])) if told[k] else None,
                ties=float(ties[k]),
                seconds=None if math.isnan(times[k]) else float(times[k]),
                is_guessing=agreement is not None and guessing(agreement, float(chance[k]), crowd, int(n[k])),
            )
        )
    return tuple(found)


def _by_rater(survey: Survey, asked: Flags, right: Flags) -> tuple[Floats, Ints]:
    """(raters,) how many of the votes flagged `asked` are also `right`, and how many there are."""
    raters = len(survey.votes.raters)
    counted = np.bincount(survey.votes.rater, asked, raters).astype(np.int64)
    return np.bincount(survey.votes.rater, asked & right, raters).astype(np.float64), counted


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

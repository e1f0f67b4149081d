"""What sways raters besides quality: the side on which a completion was shown, and its length."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from palate.agreement.estimates import Estimate, Flags, Floats, Ints, from_draws, from_normal
from palate.agreement.paired_logistic import Matches, clustered_error, fit
from palate.agreement.survey import VoteTable
from palate.core import DataError

UNKNOWN = Estimate(math.nan, math.nan, math.nan, math.nan, 0)
RESAMPLES = 200

_PULL = 1e-3
"""Keeps a policy that always won at a finite strength; changes no bias in the third digit."""

_SURE = 12.0
"""Log-odds of a pair beyond which a fit has no maximum: a few votes that all say the same."""

_POLICIES = 300
"""Strengths are taken into account for at most so many policies."""


@dataclass(frozen=True, slots=True)
class Bias:
    """A bias as seen and as estimated.

    Attributes:
        share: how often the favoured thing (the first shown, the longer) won, ties left out; the error is clustered by comparison.
        logit: its log-odds between completions of equal quality, as far as quality is known; NaN where the votes determine none, as few
            that all say the same do.
        policies: number of policies whose strengths were taken out; 0 when the completions' origin is not known.
        rater_se: standard error of the log-odds clustered by rater: larger where raters differ in their habits, and the one to
            believe when the next raters will be others.
    """

    share: Estimate
    logit: Estimate
    policies: int
    rater_se: float


UNKNOWN_BIAS = Bias(UNKNOWN, UNKNOWN, 0, math.nan)


def side_bias(survey: VoteTable, rng: np.random.Generator, resamples: int = RESAMPLES) -> Bias:
    """Log-odds in favour of what is shown first: the constant of a Bradley-Terry model of the policies behind the completions.

    Without policies it is that of the share, which is right only where sides were drawn at random. Ties are left out. The error is a
    bootstrap's over comparisons (policies stay), each time all strengths are fitted again; the interval is its percentiles.
    """
    rows = np.flatnonzero((survey.votes.answer != 1) & (survey.shown >= 0))
    if not rows.size:
        return UNKNOWN_BIAS
    item, left, first_won = _oriented(survey, rows, survey.shown[rows] == 0)
    first, second, players = _players(survey, item, left)
    many = max(players, 1)
    cell, inside = np.unique(first * many + second, return_inverse=True)
    empty = np.zeros(cell.size)
    cells = Matches(cell // many, cell % many, empty, empty, np.ones((cell.size, 1)), players, _PULL)
    shown_together = survey.comparison[item]
    _, numbers = np.unique(shown_together, return_inverse=True)
    n = int(numbers.max()) + 1
    both, row = np.unique(numbers * cell.size + inside, return_inverse=True)  # a comparison's votes on two policies go together
    voted, won = np.bincount(row).astype(np.float64), np.bincount(row, first_won).astype(np.float64)
    of_item, of_cell = both // cell.size, both % cell.size

    def fitted(times: Floats, start: Floats | None, steps: int) -> Floats | None:
        drawn = times[of_item]
        weight = np.bincount(of_cell, drawn * voted, cell.size).astype(np.float64)
        share = np.bincount(of_cell, drawn * won, cell.size) / np.maximum(weight, 1e-300)
        return _determined(replace(cells, won=share, weight=weight), start, steps)

    theta = fitted(np.ones(n), None, 60)
    if theta is None:
        return Bias(_clustered_share(first_won, shown_together), replace(UNKNOWN, n=n), players, math.nan)
    times = (np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64) for _ in range(resamples))
    refitted = (fitted(drawn, theta, 3) for drawn in times)
    draws = np.array([math.nan if one is None else one[-1] for one in refitted])
    single = replace(cells, first=first, second=second, won=first_won, weight=np.ones(rows.size), covariates=np.ones((rows.size, 1)))
    by_rater = clustered_error(single, theta, theta.size - 1, survey.votes.rater[rows])
    return Bias(_clustered_share(first_won, shown_together), from_draws(float(theta[-1]), draws, n), players, by_rater)


def length_bias(survey: VoteTable) -> Bias:
    """Log-odds in favour of ten words more, the side shown and the policies' strengths taken out where known.

    The error is clustered by comparison. Length is part of quality: without gold scores no count of votes tells a taste for length from a
    taste for what longer answers hold. Equal lengths and ties are left out of the share, ties of the log-odds.
    """
    known = np.asarray(~np.isnan(survey.words).any(axis=1))
    rows = np.flatnonzero((survey.votes.answer != 1) & known[survey.votes.item])
    if not rows.size:
        return UNKNOWN_BIAS
    shown = survey.shown[rows]
    item, left, first_won = _oriented(survey, rows, shown != 1)
    first, second, players = _players(survey, item, left)
    more = (survey.words[item, left] - survey.words[item, 1 - left]) / 10
    side = (shown >= 0).astype(np.float64)
    columns = np.stack([side, more], axis=1) if side.any() else more[:, None]
    different = more != 0
    longer_won = np.where(more > 0, first_won, 1 - first_won)
    if not different.any():
        return UNKNOWN_BIAS
    cluster = survey.comparison[item]
    share, n = _clustered_share(longer_won[different], cluster[different]), int(np.unique(cluster).size)
    matches = Matches(first, second, first_won, np.ones(rows.size), columns, players, _PULL)
    theta = _determined(matches)
    if theta is None:
        return Bias(share, replace(UNKNOWN, n=n), players, math.nan)
    error = clustered_error(matches, theta, theta.size - 1, cluster)
    logit = from_normal(float(theta[-1]), error, n)
    by_rater = clustered_error(matches, theta, theta.size - 1, survey.votes.rater[rows])
    return Bias(share, logit, players, by_rater)


def _determined(matches: Matches, start: Floats | None = None, steps: int = 60) -> Floats | None:
    """The fit; None where votes are too few, or too much alike, to determine it."""
    try:
        theta = fit(matches, start, steps)
    except DataError:
        return None
    return theta if np.abs(matches.covariates @ theta[matches.players :]).max() < _SURE else None


def _oriented(survey: VoteTable, rows: Ints, as_is: Flags) -> tuple[Ints, Ints, Floats]:
    """Of each row its item, which of the item's completions stands first (0, 1), and whether that one won (1.0, 0.0)."""
    left = np.where(as_is, 0, 1)
    won = survey.votes.answer[rows] == 2 * left
    return survey.votes.item[rows], left, won.astype(np.float64)


def _players(survey: VoteTable, item: Ints, left: Ints) -> tuple[Ints, Ints, int]:
    """Policies of what stands first and second, and their number; none where any is unknown, or there are too many."""
    first, second = survey.policy[item, left], survey.policy[item, 1 - left]
    used, numbers = np.unique(np.concatenate([first, second]), return_inverse=True)
    if used[0] < 0 or not 1 < used.size <= _POLICIES:
        return np.zeros_like(item), np.zeros_like(item), 0
    return numbers[: item.size], numbers[item.size :], int(used.size)


def _clustered_share(flags: Floats, cluster: Ints) -> Estimate:
    """The share of flags (n,) with an error that lets those of one cluster (n,) go together."""
    value = float(flags.mean())
    _, numbers = np.unique(cluster, return_inverse=True)
    parts = np.bincount(numbers, flags - value)
    groups = parts.size
    error = math.sqrt(float((parts**2).sum()) * groups / max(groups - 1, 1)) / flags.size
    return from_normal(value, error, groups)

"""Biases of raters: the side on which a completion was shown, and its length."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from palate.agreement.estimates import Estimate, Flags, Floats, Ints, clustered_share, from_draws, from_normal
from palate.agreement.paired_logistic import Matches, clustered_error, fit
from palate.agreement.profile import profile
from palate.agreement.refits import fit_each
from palate.agreement.vote_table import VoteTable
from palate.core import DataError

UNKNOWN = Estimate(math.nan, math.nan, math.nan, math.nan, 0)
RESAMPLES = 200

_PULL = 1e-3
"""Keeps the strength of a policy that always won finite. No bias changes in the third digit."""

_SURE = 12.0
"""A fit with larger log-odds of a pair has no maximum, as with a few votes that all agree."""

_POLICIES = 300
"""Strengths are estimated for at most this many policies."""


@dataclass(frozen=True, slots=True)
class Bias:
    """A bias: the share that was observed, and the estimate for completions of equal quality.

    Attributes:
        share: how often the favoured side (the first shown, or the longer) won, without ties. The error is clustered by comparison, and the
            interval is Wilson's for as many independent votes as have that error.
        logit: log-odds between completions of equal quality, as far as quality is known. Infinite where the votes know no exception; then
            the finite end of the interval says how large it is at least. NaN where the votes do not determine it, as where quality
            explains them as well.
        policies: number of policies whose strengths were taken out; 0 where policies are not known.
        rater_se: standard error of the log-odds clustered by rater. It is larger where raters differ in their habits; use it when the
            next raters will be others. NaN where it is not known: with fewer than five raters, or raters without names.
    """

    share: Estimate
    logit: Estimate
    policies: int
    rater_se: float


UNKNOWN_BIAS = Bias(UNKNOWN, UNKNOWN, 0, math.nan)


def side_bias(table: VoteTable, rng: np.random.Generator, resamples: int = RESAMPLES) -> Bias:
    """Estimate the log-odds in favour of the side shown first: the constant of a Bradley-Terry model of the policies.

    Without policies it is the log-odds of the share, which is right only where sides were drawn at random. Ties are left out. All votes
    count, also those that their raters gave again. The error is from a bootstrap over comparisons that fits all strengths again; the
    interval has its percentiles.
    """
    table = table.with_earlier()
    rows = np.flatnonzero(~table.votes.is_tie & (table.shown >= 0))
    if not rows.size:
        return UNKNOWN_BIAS
    item, left, first_won = _oriented(table, rows, table.shown[rows] == 0)
    first, second, players = _players(table, item, left)
    many = max(players, 1)
    cell, inside = np.unique(first * many + second, return_inverse=True)
    empty = np.zeros(cell.size)
    cells = Matches(cell // many, cell % many, empty, empty, np.ones((cell.size, 1)), players, _PULL)
    shown_together = table.comparison[item]
    _, numbers = np.unique(shown_together, return_inverse=True)
    n = int(numbers.max()) + 1
    both, row = np.unique(numbers * cell.size + inside, return_inverse=True)  # a comparison's votes on two policies go together
    voted, won = np.bincount(row).astype(np.float64), np.bincount(row, first_won).astype(np.float64)
    of_item, of_cell = both // cell.size, both % cell.size

    def counted(times: Floats) -> tuple[Floats, Floats]:
        """Return (cells,) the shares that the first won, and the votes, where each comparison counts so many times."""
        drawn = times[of_item]
        weight = np.bincount(of_cell, drawn * voted, cell.size).astype(np.float64)
        return np.bincount(of_cell, drawn * won, cell.size) / np.maximum(weight, 1e-300), weight

    share = clustered_share(first_won, shown_together)
    whole, weight = counted(np.ones(n))
    theta = _determined(replace(cells, won=whole, weight=weight))
    if theta is None:
        alone = 1 / np.bincount(numbers)[numbers]  # the votes on a comparison count as one
        weight = np.bincount(inside, alone, cell.size).astype(np.float64)
        at_edge = profile(replace(cells, won=np.bincount(inside, alone * first_won, cell.size) / weight, weight=weight), 0, n)
        return Bias(share, at_edge or replace(UNKNOWN, n=n), players, math.nan)
    drawn = np.array([counted(np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64)) for _ in range(resamples)])
    draws = fit_each(cells, drawn[:, 0], drawn[:, 1], theta, steps=3)[:, -1]
    draws = np.where(np.abs(draws) < _SURE, draws, math.copysign(math.inf, theta[-1]))
    single = replace(cells, first=first, second=second, won=first_won, weight=np.ones(rows.size), covariates=np.ones((rows.size, 1)))
    by_rater = _rater_error(table, single, theta, rows)
    return Bias(share, from_draws(float(theta[-1]), draws, n), players, by_rater)


def length_bias(table: VoteTable) -> Bias:
    """Estimate the log-odds in favour of ten words more; the side shown and the policies' strengths are taken out where known.

    The error is clustered by comparison. Length is part of quality: without gold scores, votes cannot tell a taste for length from a taste
    for what longer answers contain. The share leaves out equal lengths and ties, the log-odds leave out ties. All votes count, also those
    that their raters gave again.
    """
    table = table.with_earlier()
    known = np.asarray(~np.isnan(table.words).any(axis=1))
    rows = np.flatnonzero(~table.votes.is_tie & known[table.votes.item])
    if not rows.size:
        return UNKNOWN_BIAS
    shown = table.shown[rows]
    item, left, first_won = _oriented(table, rows, shown != 1)
    first, second, players = _players(table, item, left)
    more = (table.words[item, left] - table.words[item, 1 - left]) / 10
    side = (shown >= 0).astype(np.float64)
    columns = np.stack([side, more], axis=1) if side.any() else more[:, None]
    different = more != 0
    longer_won = np.where(more > 0, first_won, 1 - first_won)
    if not different.any():
        return UNKNOWN_BIAS
    cluster = table.comparison[item]
    share, n = clustered_share(longer_won[different], cluster[different]), int(np.unique(cluster).size)
    matches = Matches(first, second, first_won, np.ones(rows.size), columns, players, _PULL)
    theta = _determined(matches)
    if theta is None:
        _, numbers = np.unique(cluster, return_inverse=True)
        alone = replace(matches, weight=1 / np.bincount(numbers)[numbers])
        return Bias(share, profile(alone, columns.shape[1] - 1, n) or replace(UNKNOWN, n=n), players, math.nan)
    error = clustered_error(matches, theta, theta.size - 1, cluster)
    logit = from_normal(float(theta[-1]), error, n)
    return Bias(share, logit, players, _rater_error(table, matches, theta, rows))


def _rater_error(table: VoteTable, matches: Matches, theta: Floats, rows: Ints) -> float:
    """Return the standard error of the last coefficient clustered by rater; NaN where a rater is not known."""
    if not table.is_named[rows].all():
        return math.nan
    return clustered_error(matches, theta, theta.size - 1, table.votes.rater[rows])


def _determined(matches: Matches) -> Floats | None:
    """Return the fit. None where votes are too few or too much alike to determine it."""
    try:
        theta = fit(matches)
    except DataError:
        return None
    return theta if np.abs(matches.covariates @ theta[matches.players :]).max() < _SURE else None


def _oriented(table: VoteTable, rows: Ints, as_is: Flags) -> tuple[Ints, Ints, Floats]:
    """Return each row's item, which of the item's completions stands first (0, 1), and whether that one won (1.0, 0.0)."""
    left = np.where(as_is, 0, 1)
    won = table.votes.answer[rows] == 2 * left
    return table.votes.item[rows], left, won.astype(np.float64)


def _players(table: VoteTable, item: Ints, left: Ints) -> tuple[Ints, Ints, int]:
    """Return the policies of the first and the second completion, and their number: 0 where one is unknown or there are too many."""
    first, second = table.policy[item, left], table.policy[item, 1 - left]
    used, numbers = np.unique(np.concatenate([first, second]), return_inverse=True)
    if used[0] < 0 or not 1 < used.size <= _POLICIES:
        return np.zeros_like(item), np.zeros_like(item), 0
    return numbers[: item.size], numbers[item.size :], int(used.size)

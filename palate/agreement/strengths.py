"""Strengths of players, such as policies or completions: Bradley-Terry, and Crowd-BT, which also learns how reliable each rater is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from palate.agreement.estimates import Floats, Ints
from palate.agreement.paired_logistic import Matches, fit, sigmoid
from palate.agreement.refits import fit_each
from palate.core import DataError


def bradley_terry(wins: Floats, pull: float = 0.0) -> Floats:
    """Return (k,) centred log-strengths of players by maximum likelihood, from wins[i, j], how often i beat j; a tie is half a win each.

    P(i beats j) = sigma(s_i - s_j). With `pull` each player has this many more wins and losses against a player of strength 0. Then those
    who won all or lost all have a strength too. Source: Bradley & Terry 1952.

    Raises:
        DataError: there is no pull and no maximum, because some players cannot be reached from others by a chain of wins.
    """
    if not pull:
        _check_connected(wins)
    first, second = np.nonzero(wins)
    matches = Matches(
        first, second, np.ones(first.size), np.asarray(wins[first, second], dtype=np.float64), np.empty((first.size, 0)), len(wins), pull
    )
    strengths = fit(matches)
    return np.asarray(strengths - strengths.mean())


def bradley_terry_each(wins: Floats, pull: float) -> Floats:
    """Return (r, k) the strengths of `bradley_terry` for each of several samples of wins (r, k, k). The pull must be above 0."""
    first, second = np.nonzero(wins.sum(0))
    weight = np.asarray(wins[:, first, second], dtype=np.float64)
    matches = Matches(first, second, np.ones(first.size), np.ones(first.size), np.empty((first.size, 0)), wins.shape[1], pull)
    strengths = fit_each(matches, np.ones_like(weight), weight)
    return np.asarray(strengths - strengths.mean(1, keepdims=True))


def _check_connected(wins: Floats) -> None:
    """Raises DataError where the likelihood has no maximum. Source: Ford 1957."""
    reach = (wins > 0) | np.eye(len(wins), dtype=bool)
    for _ in range(len(wins).bit_length()):
        reach = (reach.astype(np.float64) @ reach.astype(np.float64)) > 0
    if not reach.all():
        k, j = (int(n) for n in np.argwhere(~reach)[0])
        raise DataError(
            f"player {k} never beat player {j}, nor anyone who leads to them by wins: the strengths are not determined, or infinite. "
            "Give a pull above 0, say 0.1."
        )


@dataclass(frozen=True, slots=True, eq=False)
class CrowdVotes:
    """Votes of raters on encounters of players: first and second (n,) player numbers, won (n,) as in `Matches`, rater (n,) numbers."""

    first: Ints
    second: Ints
    won: Floats
    rater: Ints
    players: int
    raters: int


@dataclass(frozen=True, slots=True, eq=False)
class CrowdStrengths:
    """What Crowd-BT found: strengths (players,), the probability that each rater says what is seen (raters,), and the objective by step."""

    strength: Floats
    reliability: Floats
    objective: tuple[float, ...]


def crowd_probability(votes: CrowdVotes, strength: Floats, reliability: Floats) -> Floats:
    """(n,) P(first wins) = e sigma(d) + (1 - e) sigma(-d). Source: Chen et al. 2013 eq. 5."""
    p, e = sigmoid(strength[votes.first] - strength[votes.second]), reliability[votes.rater]
    return e * p + (1 - e) * (1 - p)


def crowd_log_likelihood(votes: CrowdVotes, strength: Floats, reliability: Floats) -> float:
    """Sum of the votes' log-probabilities in nats; a tie is half a vote each way."""
    p = crowd_probability(votes, strength, reliability)
    return float((votes.won * np.log(p) + (1 - votes.won) * np.log(1 - p)).sum())


def crowd_honest(votes: CrowdVotes, strength: Floats, reliability: Floats) -> tuple[Floats, Floats]:
    """Return (n,) the probability that a vote for the first is honest, and (n,) that a vote for the second is."""
    p, e = sigmoid(strength[votes.first] - strength[votes.second]), reliability[votes.rater]
    return e * p / (e * p + (1 - e) * (1 - p)), e * (1 - p) / (e * (1 - p) + (1 - e) * p)


def crowd_bradley_terry(
    votes: CrowdVotes, pull: float = 0.1, start: float = 0.9, pseudo: float = 2.0, steps: int = 100, tolerance: float = 1e-7
) -> CrowdStrengths:
    """Fit strengths and reliabilities by EM, with `pull`. For reward models it is `objective: crowd_bt`.

    Strengths -s with reliabilities 1 - e are as likely as s with e; `start` above 0.5 decides. It cannot help where most votes are wrong.
    Source: Chen et al. 2013, there by gradient.

    Args:
        votes: the votes.
        pull: votes that each player won, and as many lost, against a player of strength 0.
        start: reliability of each rater at the start.
        pseudo: votes that every rater has in advance, distributed as `start` says, so raters with few votes stay near it. 0 for none.
        steps: EM steps at most.
        tolerance: stops when the objective rises by less than this for each vote.
    """
    if not 0.5 < start < 1 or pull <= 0:
        raise DataError(f"crowd_bradley_terry: start must lie in (0.5, 1) and pull above 0, got {start} and {pull}")
    reliability = np.full(votes.raters, start)
    matches = Matches(votes.first, votes.second, votes.won, np.ones(votes.won.size), np.empty((votes.won.size, 0)), votes.players, pull)
    strength = fit(matches)  # as if all were reliable
    objective: list[float] = []
    for _ in range(steps):
        for_first, for_second = crowd_honest(votes, strength, reliability)
        honest = votes.won * for_first + (1 - votes.won) * for_second
        honest_votes = np.bincount(votes.rater, honest, votes.raters) + pseudo * start
        reliability = honest_votes / np.maximum(np.bincount(votes.rater, minlength=votes.raters) + pseudo, 1e-12)
        won = votes.won * for_first + (1 - votes.won) * (1 - for_second)
        strength = fit(replace(matches, won=won), strength, steps=2)
        e = np.clip(reliability, 1e-12, 1 - 1e-12)
        pulled = pull * float((np.logaddexp(0, strength) + np.logaddexp(0, -strength)).sum())
        in_advance = pseudo * float((start * np.log(e) + (1 - start) * np.log(1 - e)).sum())
        objective.append(crowd_log_likelihood(votes, strength, e) - pulled + in_advance)
        if len(objective) > 1 and objective[-1] - objective[-2] < tolerance * votes.won.size:
            break
    return CrowdStrengths(strength, reliability, tuple(objective))

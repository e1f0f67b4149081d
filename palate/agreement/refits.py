"""Fit one model of pairs to many samples of the same encounters at once, as a bootstrap does: a step of Newton's method for all of them."""

from __future__ import annotations

import numpy as np

from palate.agreement.estimates import Floats, Ints
from palate.agreement.paired_logistic import DAMPING, DENSE, EPSILON, LARGE, STEPS, Matches, fit, sigmoid
from palate.core import DataError

_ROOM = 4_000_000
"""Numbers in the largest array of a step. More samples are fitted in turn."""


def fit_each(matches: Matches, won: Floats, weight: Floats, start: Floats | None = None, steps: int = STEPS) -> Floats:
    """Return (r, players + k) what `fit` returns for each sample; a row of NaN where a sample has no maximum.

    Args:
        matches: the encounters. Their own `won` and `weight` are not read. With players it needs a pull above 0.
        won: (r, n) shares that the first won in each sample.
        weight: (r, n) weights of the encounters in each sample.
        start: (players + k,) where all samples start.
        steps: steps of Newton's method at most.
    """
    unknowns = matches.players + matches.covariates.shape[1]
    theta = np.zeros(unknowns) if start is None else start
    if unknowns > DENSE:
        rows = [_alone(matches, *sample, theta, steps) for sample in zip(won, weight, strict=True)]
        return np.array(rows).reshape(-1, unknowns)
    design = matches.covariates[:, :, None] * matches.covariates[:, None, :]
    many = max(1, _ROOM // (unknowns**2 + matches.first.size))
    parts = [
        _Samples(matches, won[at : at + many], weight[at : at + many], design.reshape(len(design), -1)).fitted(theta, steps)
        for at in range(0, len(won), many)
    ]
    return np.concatenate(parts) if parts else np.empty((0, unknowns))


def _alone(matches: Matches, won: Floats, weight: Floats, start: Floats, steps: int) -> Floats:
    """Return the fit of one sample."""
    one = Matches(matches.first, matches.second, won, weight, matches.covariates, matches.players, matches.pull, matches.offset)
    try:
        return fit(one, start, steps)
    except DataError:
        return np.full_like(start, np.nan)


def _solved(left: Floats, right: Floats) -> Floats:
    """Return (r, k, 1) the solutions of r systems; NaN for one that has none, as where a sample's strengths go to infinity."""
    try:
        return np.asarray(np.linalg.solve(left, right))
    except np.linalg.LinAlgError:
        if len(left) == 1:
            return np.full_like(right, np.nan)
        half = len(left) // 2
        return np.concatenate([_solved(left[:half], right[:half]), _solved(left[half:], right[half:])])


class _Samples:
    """The samples that are fitted together. `theta` is (r, players + k), and `design` (n, k * k) has the products of covariates."""

    def __init__(self, matches: Matches, won: Floats, weight: Floats, design: Floats) -> None:
        self._matches, self._won, self._weight, self._design = matches, won, weight, design

    @np.errstate(invalid="ignore")  # a sample without a maximum runs to infinity, and ends as NaN
    def fitted(self, start: Floats, steps: int) -> Floats:
        """Return (r, players + k) the fits."""
        theta, rows = np.tile(start, (len(self._won), 1)), np.arange(len(self._won))
        value, enough = self._objective(theta, rows), EPSILON * np.maximum(self._weight.sum(1), 1.0)
        for _ in range(steps):
            step, rise = self._step(theta[rows], rows)
            size, moved = np.ones((rows.size, 1)), self._objective(theta[rows] + step, rows)
            while (is_short := (moved < value[rows]) & (size[:, 0] > 1e-6)).any():
                size[is_short] /= 2
                again = rows[is_short]
                moved[is_short] = self._objective(theta[again] + size[is_short] * step[is_short], again)
            theta[rows] += size * step
            value[rows] = np.maximum(moved, value[rows])
            rows = rows[rise >= enough[rows]]
            if not rows.size:
                break
        strengths = theta[:, : self._matches.players]
        theta[~np.isfinite(theta).all(1) | (np.abs(strengths).max(1, initial=0.0) > LARGE)] = np.nan
        return theta

    def _logits(self, theta: Floats) -> Floats:
        """(r, n) log-odds that the first wins."""
        matches = self._matches
        logits = theta[:, matches.players :] @ matches.covariates.T + matches.offset
        return logits + theta[:, matches.first] - theta[:, matches.second] if matches.players else logits

    def _objective(self, theta: Floats, rows: Ints) -> Floats:
        """(rows,) weighted log-likelihoods in nats, with the pull."""
        d, s = self._logits(theta), theta[:, : self._matches.players]
        logps = self._won[rows] * d - np.logaddexp(0, d)
        pulled = self._matches.pull * (np.logaddexp(0, s) + np.logaddexp(0, -s)).sum(1)
        return np.asarray((self._weight[rows] * logps).sum(1) - pulled)

    def _step(self, theta: Floats, rows: Ints) -> tuple[Floats, Floats]:
        """Return (rows, players + k) Newton's steps, and (rows,) how much the objective rises along each."""
        matches, players, weight = self._matches, self._matches.players, self._weight[rows]
        p, q = sigmoid(self._logits(theta)), sigmoid(theta[:, :players])
        missed = weight * (self._won[rows] - p)
        gradient = missed @ matches.covariates
        if players:
            met = self._summed(matches.first, missed, players) - self._summed(matches.second, missed, players)
            gradient = np.concatenate([met + matches.pull * (1 - 2 * q), gradient], axis=1)
        step = _solved(self._hessian(weight * p * (1 - p), q), gradient[:, :, None])[:, :, 0]
        return step, (gradient * step).sum(1)

    def _hessian(self, v: Floats, q: Floats) -> Floats:
        """(r, players + k, players + k) Hessians of minus the objective, from the curvatures (r, n) and the strengths' sigmoids."""
        matches, players, k = self._matches, self._matches.players, self._matches.covariates.shape[1]
        hessian = np.zeros((len(v), players + k, players + k))
        hessian[:, players:, players:] = (v @ self._design).reshape(len(v), k, k) + DAMPING * np.eye(k)
        if players:
            met = self._summed(matches.first * players + matches.second, v, players**2).reshape(len(v), players, players)
            met += met.transpose(0, 2, 1)
            hessian[:, :players, :players] = -met
            each = np.arange(players)
            hessian[:, each, each] += met.sum(2) + 2 * matches.pull * q * (1 - q)
            for place, column in enumerate(matches.covariates.T, start=players):
                rows = v * column
                cross = self._summed(matches.first, rows, players) - self._summed(matches.second, rows, players)
                hessian[:, :players, place] = hessian[:, place, :players] = cross
        return hessian

    def _summed(self, numbers: Ints, rows: Floats, size: int) -> Floats:
        """(r, size) sums of each row (r, n) by number (n,)."""
        places = np.arange(len(rows))[:, None] * size + numbers
        return np.asarray(np.bincount(places.ravel(), rows.ravel(), len(rows) * size).reshape(len(rows), size), dtype=np.float64)

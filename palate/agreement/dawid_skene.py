"""Dawid-Skene's model of raters' errors and true answers, and its one-coin form, fitted by EM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from palate.agreement.estimates import Floats, Ints
from palate.agreement.votes import Votes, count_pairs, mirrored
from palate.core import DataError

Model = Literal["full", "one_coin"]
_TINY = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class DawidSkene:
    """A fitted model. The classes are the answers.

    Attributes:
        posterior: (items, classes) probability of each true answer. It is far too confident: train on `next_votes` and never on this.
        confusion: (raters, classes, answers) probability of each answer given the true class.
        prior: (classes,) shares of the classes.
        pooled: (classes, answers) the mean confusion matrix, each rater weighted by votes.
        objective: log-likelihood of the votes in nats after each step, with the log-prior of the confusions where `pseudo` is not 0. It
            never falls.
    """

    posterior: Floats
    confusion: Floats
    prior: Floats
    pooled: Floats
    objective: tuple[float, ...]

    def next_votes(self) -> Floats:
        """Return (items, answers) what an average rater would say next: the posterior through the mean confusion."""
        return self.posterior @ self.pooled

    def accuracy(self) -> Floats:
        """(raters,) probability that a rater gives the true answer."""
        return np.asarray(np.einsum("c,rcc->r", self.prior, self.confusion))


def dawid_skene(
    votes: Votes,
    model: Model = "full",
    pseudo: float = 3.0,
    steps: int = 100,
    tolerance: float = 1e-6,
    mirror: Ints | None = None,
) -> DawidSkene:
    """Fit the model to the votes by EM, starting from the shares of votes.

    In the full model each rater has a matrix of P(answer | class). In the one-coin model each rater gives the true answer with one
    probability and shares the rest evenly; it has less to learn from few votes. An item without votes has the prior as posterior.
    Source: Dawid & Skene 1979. With `pseudo` 0 it is exactly theirs.

    Args:
        votes: the votes.
        model: full or one_coin.
        pseudo: votes per class (full) or in all (one coin) that every rater has in advance, distributed as those of the whole pool at
            the start. Raters with few votes stay near the pool.
        steps: EM steps at most.
        tolerance: stops when the objective rises by less than this for each vote.
        mirror: what each answer becomes when an item's two sides change their names (`Votes.mirror`). Classes and confusions are then the
            same under both names, so nothing depends on which side is called the first. None is the original model.
    """
    if pseudo < 0 or steps < 1:
        raise DataError(f"dawid_skene: pseudo must be >= 0 and steps >= 1, got {pseudo} and {steps}")
    if not len(votes):
        raise DataError("dawid_skene: there are no votes")
    counts = votes.counts()
    voted = counts.sum(1) > 0
    posterior = np.full(counts.shape, 1 / counts.shape[1])
    posterior[voted] = counts[voted] / counts[voted].sum(1, keepdims=True)
    in_advance = _normalised(_tables(votes, posterior, mirror).sum(0))
    objective: list[float] = []
    for _ in range(steps):
        tables = _tables(votes, posterior, mirror)
        confusion = _confusion(tables, in_advance, pseudo) if model == "full" else _one_coin(tables, in_advance, pseudo)
        prior = mirrored(posterior[voted].mean(0), mirror, axes=(0,))
        logs = np.log(np.maximum(confusion, _TINY))
        evidence = np.log(np.maximum(prior, _TINY)) + np.stack(
            [np.bincount(votes.item, weights=logs[votes.rater, c, votes.answer], minlength=len(counts)) for c in range(len(prior))], axis=1
        )
        peak = evidence.max(1, keepdims=True)
        posterior = np.exp(evidence - peak)
        total = posterior.sum(1, keepdims=True)
        posterior /= total
        likelihood = float((peak + np.log(total))[voted].sum())
        objective.append(likelihood + (_log_prior(logs, in_advance, pseudo, model) if pseudo else 0.0))
        if len(objective) > 1 and objective[-1] - objective[-2] < tolerance * len(votes):
            break
    return DawidSkene(posterior, confusion, prior, _normalised(_tables(votes, posterior, mirror).sum(0)), tuple(objective))


def _tables(votes: Votes, posterior: Floats, mirror: Ints | None) -> Floats:
    """Return (raters, classes, answers) expected numbers of votes."""
    shape = len(votes.raters), len(votes.answers)
    columns = [count_pairs(votes.rater, votes.answer, shape, posterior[votes.item, c]) for c in range(posterior.shape[1])]
    return mirrored(np.stack(columns, axis=1), mirror, axes=(1, 2))


def _normalised(tables: Floats) -> Floats:
    """Return rows as shares. A row of zeros becomes the uniform distribution."""
    totals = tables.sum(-1, keepdims=True)
    return np.asarray(np.where(totals > 0, tables / np.maximum(totals, _TINY), 1 / tables.shape[-1]))


def _confusion(tables: Floats, in_advance: Floats, pseudo: float) -> Floats:
    return _normalised(np.asarray(tables + pseudo * in_advance))


def _one_coin(tables: Floats, in_advance: Floats, pseudo: float) -> Floats:
    """Return (raters, classes, answers): one probability per rater of the true answer, the rest shared evenly."""
    classes = tables.shape[1]
    right = np.trace(tables, axis1=1, axis2=2) + pseudo * np.trace(in_advance) / classes
    accuracy = right / np.maximum(tables.sum((1, 2)) + pseudo, _TINY)
    other = (1 - accuracy) / max(classes - 1, 1)
    return np.asarray(np.where(np.eye(classes, dtype=bool)[None], accuracy[:, None, None], other[:, None, None]))


def _log_prior(logs: Floats, in_advance: Floats, pseudo: float, model: Model) -> float:
    """Return what the votes in advance add to the log-likelihood of the learned numbers, so that no step lowers the sum."""
    if model == "full":
        return pseudo * float((in_advance * logs).sum())
    classes = len(in_advance)
    right = np.trace(in_advance) / classes
    return pseudo * float((right * logs[:, 0, 0] + (1 - right) * logs[:, 0, -1]).sum())

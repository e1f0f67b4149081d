"""From votes to probabilities and preferences: majorities, smoothed shares (the default), and Dawid-Skene's estimate of the next vote."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from palate.agreement.dawid_skene import dawid_skene
from palate.agreement.estimates import Floats, Ints
from palate.agreement.votes import Votes, mirrored
from palate.core import Comparison, DataError, Preference

PRIOR = 1.0


def majority(counts: Floats) -> Floats:
    """Return (items, answers) 1 at the answer with most votes, shared evenly between equals, and evenly by all answers without votes."""
    most = counts == counts.max(1, keepdims=True)
    return np.asarray(most / most.sum(1, keepdims=True))


def smoothed_shares(counts: Floats, prior: float = PRIOR, base: Floats | None = None, mirror: Ints | None = None) -> Floats:
    """Return (items, answers) shares (votes + prior base) / (n + prior), an estimate of the next vote.

    One vote is not certainty: a raw share says 1 for an answer that the next rater denies a third of the time. `base` (answers,) is
    expected before any vote, by default the shares of all votes, and is worth `prior` votes. With a `mirror` (see `Votes.mirror`) the
    shares of all votes do not depend on which side is called the first.
    """
    if prior < 0:
        raise DataError(f"smoothed_shares: prior is a number of votes >= 0, got {prior}; 1 is usual")
    total = counts.sum()
    common = np.full(counts.shape[1], 1 / counts.shape[1]) if not total else mirrored(counts.sum(0) / total, mirror, axes=(0,))
    expected = common if base is None else base
    totals = counts.sum(1, keepdims=True)
    return np.where(totals + prior > 0, (counts + prior * expected) / np.maximum(totals + prior, 1e-300), expected)


def smoothed_share(votes: Sequence[float], prior: float = PRIOR) -> float:
    """Return (votes + prior / 2) / (n + prior) for the votes on one pair: 1 for its first side, 0 for its second, one half for a tie.

    That is `first_probability` of `smoothed_shares` with an even base.
    """
    return (sum(votes) + prior / 2) / (len(votes) + prior)


def next_vote_shares(votes: Votes, pseudo: float = 3.0) -> Floats:
    """Return (items, answers) Dawid-Skene's posterior through the mean confusion matrix: what an average rater would say next.

    The posterior itself is about a hidden truth and is too confident; a model that learns from it becomes more confident than raters are.
    """
    return dawid_skene(votes, pseudo=pseudo, mirror=votes.mirror).next_votes()


def first_probability(shares: Floats) -> Floats:
    """Return (items,) the probability that a pair's first completion is preferred, from shares (items, 3); a tie counts half for each."""
    return np.asarray(shares[:, 0] + shares[:, 1] / 2)


def vote_log_loss(shares: Floats, held_out: Votes, floor: float = 1e-3) -> float:
    """Return the mean -log probability of held-out votes, in nats. Probabilities below `floor` count as `floor`.

    The floor only matters for raw shares and posteriors, which give probability 0 to votes that do happen.
    """
    return float(-np.log(np.maximum(shares[held_out.item, held_out.answer], floor)).mean())


def hold_out(votes: Votes, rng: np.random.Generator, least: int = 3) -> tuple[Votes, Votes]:
    """Hold out one random vote of each item with `least` votes or more; return (rest, held out)."""
    order = rng.permutation(len(votes))
    _, first = np.unique(votes.item[order], return_index=True)
    drawn = order[first]
    drawn = drawn[np.bincount(votes.item, minlength=len(votes.items))[votes.item[drawn]] >= least]
    flags = np.zeros(len(votes), dtype=bool)
    flags[drawn] = True
    return votes.selected(~flags), votes.selected(flags)


def concluded(comparison: Comparison, first: float, dimension: str = "overall", judgments: tuple[str, ...] = ()) -> Preference:
    """Return the preference of a pair whose first completion is preferred with probability `first`. The likelier side is chosen."""
    if len(comparison.completions) != 2 or not 0 <= first <= 1:
        raise DataError(
            f"{comparison.id}: a preference needs two completions and a probability, got {len(comparison.completions)}, {first}"
        )
    chosen, rejected = comparison.completions if first >= 0.5 else comparison.swapped().completions
    return Preference(comparison.prompt, chosen, rejected, max(first, 1 - first), dimension=dimension, judgments=judgments)

"""Which items to ask about next, and whether to ask one more rater: ensemble disagreement, spread over prompts, with a random part."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from palate.agreement.estimates import Flags, Floats, Ints
from palate.agreement.paired_logistic import sigmoid
from palate.core import DataError

Disagreement = Literal["logit", "probability", "label"]

LEAST_RANDOM = 0.3
NEIGHBOURS = 10
_BLOCK = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """The chosen candidates.

    Attributes:
        indices: (k,) candidates chosen, the random ones last.
        probability: (k,) probability of being chosen, over all draws. Its inverse is the weight that makes sums unbiased.
        is_random: (k,) true for the random part.
    """

    indices: Ints
    probability: Floats
    is_random: Flags


def ensemble_disagreement(first: Floats, second: Floats, of: Disagreement = "probability") -> Floats:
    """Return (p,) the variance over an ensemble's members, from scores (p, m) of both completions.

    It is the variance of the score difference (unbiased), of P(first wins) (biased), or of the predicted label (biased; equal scores count
    as first). Source: Christiano et al. 2017 section 2.2.4. They found that it sometimes hurts, so keep a random part.
    """
    if first.shape != second.shape or first.ndim != 2:
        raise DataError(f"ensemble_disagreement: scores must be (pairs, members) for both sides, got {first.shape} and {second.shape}")
    difference = first - second
    match of:
        case "logit":
            return np.asarray(difference.var(axis=1, ddof=1) if first.shape[1] > 1 else np.zeros(len(first)))
        case "probability":
            return np.asarray(sigmoid(difference).var(axis=1))
        case "label":
            return np.asarray((difference >= 0).astype(np.float64).var(axis=1))


def select(
    uncertainty: Floats, count: int, rng: np.random.Generator, features: Floats | None = None, random_share: float = LEAST_RANDOM
) -> Selection:
    """Choose `count` candidates: most with probability proportional to uncertainty and novelty, at least 30 % at random from the others.

    Uncertainty alone asks the same thing many times. A candidate's weight is its uncertainty times the distance to its tenth neighbour
    among the `features` of prompts, so candidates in crowded places count less. The draw is systematic along an order in which neighbours
    stand together, which spreads it. Both draws have known probabilities. The probability returned is exact: p + (1 - p) random / (rest),
    with p of the first draw.

    Args:
        uncertainty: (n,) numbers >= 0, for example from `ensemble_disagreement`.
        count: how many to choose; all candidates where there are fewer.
        rng: draws.
        features: (n, d) features of each candidate's prompt, such as mean hidden states. None uses uncertainty alone.
        random_share: share of the count that is random, 0.3 or more.
    """
    n = len(uncertainty)
    if not LEAST_RANDOM <= random_share <= 1:
        raise DataError(
            f"select: random_share must lie in [{LEAST_RANDOM}, 1], got {random_share}: the random part is needed to check the rest"
        )
    if n and (not np.isfinite(uncertainty).all() or uncertainty.min() < 0):
        raise DataError("select: uncertainty must be finite and >= 0")
    if count >= n:
        return Selection(np.arange(n), np.ones(n), np.ones(n, dtype=bool))
    at_random = math.ceil(round(random_share * count, 9))
    weights = uncertainty if features is None else uncertainty * novelty(features)
    order = rng.permutation(n) if features is None else neighbourly(features)
    chances = inclusion(weights, count - at_random)
    chosen = order[systematic(chances[order], float(rng.random()))]
    rest = np.setdiff1d(np.arange(n), chosen)
    drawn = rng.choice(rest, at_random, replace=False)
    indices = np.concatenate([chosen, drawn])
    probability = chances + (1 - chances) * at_random / (n - (count - at_random))
    return Selection(indices, probability[indices], np.repeat([False, True], [chosen.size, drawn.size]))


def inclusion(weights: Floats, count: int) -> Floats:
    """Return (n,) probabilities proportional to the weights, at most 1, that sum to `count`. Too few weights above 0 count as equal."""
    if np.count_nonzero(weights) < count:
        weights = np.ones_like(weights)
    chances = np.zeros(weights.size)
    certain = np.zeros(weights.size, dtype=bool)
    while True:
        left = count - int(certain.sum())
        free = weights * ~certain
        chances = np.where(certain, 1.0, free * left / max(float(free.sum()), 1e-300))
        if not (chances > 1 + 1e-12).any():
            return np.minimum(chances, 1.0)
        certain |= chances > 1


def systematic(chances: Floats, start: float) -> Ints:
    """Draw indices with these probabilities, spread evenly along the order: where the running sum passes start, start + 1, ..."""
    edges = np.cumsum(chances)
    count = round(float(edges[-1])) if edges.size else 0
    return np.minimum(np.searchsorted(edges, np.arange(count) + start, side="right"), chances.size - 1)


def novelty(features: Floats) -> Floats:
    """Return (n,) the distance to the tenth nearest other row, over its mean. Rows in crowded places have low values."""
    k = min(NEIGHBOURS, len(features) - 1)
    if k < 1:
        return np.ones(len(features))
    squares = (features**2).sum(1)
    nearest = np.empty(len(features))
    for start in range(0, len(features), _BLOCK):
        part = features[start : start + _BLOCK]
        distances = squares[None, :] + squares[start : start + _BLOCK, None] - 2 * part @ features.T
        nearest[start : start + _BLOCK] = np.partition(distances, k, axis=1)[:, k]
    distance = np.sqrt(np.maximum(nearest, 0))
    mean = float(distance.mean())
    return distance / mean if mean > 0 else np.ones(len(features))


def neighbourly(features: Floats) -> Ints:
    """Return an order of the rows (n, d) in which neighbours stand together, from halves along the widest dimension, repeatedly."""

    def ordered(rows: Ints) -> list[Ints]:
        spread = np.ptp(features[rows], axis=0)
        if rows.size <= 2 or not spread.max() > 0:
            return [rows]
        by = rows[np.argsort(features[rows, spread.argmax()], kind="stable")]
        return ordered(by[: by.size // 2]) + ordered(by[by.size // 2 :])

    return np.concatenate(ordered(np.arange(len(features)))) if len(features) else np.empty(0, dtype=np.int64)


def diverse_order(uncertainty: Floats, features: Floats, is_near: Flags) -> Ints:
    """Return all n candidates in the order in which to ask: uncertain ones first, and similar prompts not after each other.

    The order is greedy. The next candidate has the largest product of its uncertainty and its distance to the nearest one before it, which
    is 1 less the cosine of their features.

    Args:
        uncertainty: (n,) numbers >= 0.
        features: (n, d) features of each candidate's prompt, of any length.
        is_near: (n,) candidates that are being asked about already; others keep away from them.
    """
    units = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    distance, left, chosen = np.full(len(units), 2.0), np.ones(len(units), dtype=bool), list[int]()
    for at in np.flatnonzero(is_near):
        distance = np.minimum(distance, 1 - units @ units[at])
    while left.any():
        # The small term puts the more uncertain first among candidates that are like one already chosen.
        gain = np.where(left, uncertainty * (np.maximum(distance, 0) + 1e-6), -1.0)
        best = int(gain.argmax())
        chosen.append(best)
        left[best] = False
        distance = np.minimum(distance, 1 - units @ units[best])
    return np.array(chosen, dtype=np.int64)


def ask_further(counts: Floats, overlap: int, most: int, enough: float = 0.5) -> Flags:
    """Return whether an item with these votes (answers,), or each of several (items, answers), gets a further rater.

    It does below `overlap` votes, and does not from `most` votes on. In between it does while fewer than `enough` of the pairs of its
    raters agree: two raters who disagree call for a third, and three votes against one are enough.
    """
    totals = counts.sum(-1)
    agreeing = (counts * (counts - 1)).sum(-1) / np.maximum(totals * (totals - 1), 1)
    return np.asarray((totals < overlap) | ((totals < most) & (totals > 1) & (agreeing < enough)))

"""Do raters agree more than chance would have them? Raw agreement and Krippendorff's alpha, with bootstrap intervals over items."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from palate.agreement.estimates import Estimate, Floats, from_draws
from palate.agreement.votes import Votes

Level = Literal["nominal", "ordinal", "interval"]
RESAMPLES = 1000


def raw_agreement(counts: Floats, rng: np.random.Generator, resamples: int = RESAMPLES) -> Estimate:
    """Mean over items of the share of pairs of raters who say the same; NaN where no item has two votes.

    Args:
        counts: (items, answers) votes; items with fewer than two are left out. Leave the column of ties out to have agreement without ties.
        rng: draws the items again.
        resamples: number of bootstrap samples.
    """
    patterns, times = _patterns(counts)
    if not times.size:
        return Estimate(math.nan, math.nan, math.nan, math.nan, 0)
    totals = patterns.sum(1)
    same = (patterns * (patterns - 1)).sum(1) / (totals * (totals - 1))
    n = int(times.sum())
    draws = rng.multinomial(n, times / n, size=resamples) @ same / n
    return from_draws(float(times @ same / n), draws, n)


def krippendorff_alpha(
    votes: Votes | Floats,
    rng: np.random.Generator,
    level: Level = "nominal",
    values: Floats | None = None,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Krippendorff's alpha, 1 - Do / De, from the coincidence matrix; with a percentile interval from resampled items.

    Items with fewer than two votes say nothing and are left out; raters may be missing anywhere. Ordinal differences are
    (sum of marginals from one answer to the other - half of both)^2, interval ones the squared difference of `values`.
    NaN when only one answer was ever given: then there is nothing to agree on beyond chance.
    Source: Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability".

    Args:
        votes: the votes, or their (items, answers) counts.
        rng: draws the items again.
        level: what answers are: mere names, ranks, or numbers.
        values: (answers,) numbers that answers stand for with level interval; by default 0, 1, 2, ...
        resamples: number of bootstrap samples.
    """
    counts = votes.counts() if isinstance(votes, Votes) else votes
    patterns, times = _patterns(counts)
    k = counts.shape[1]
    if not times.size:
        return Estimate(math.nan, math.nan, math.nan, math.nan, 0)
    numbers = np.arange(k, dtype=np.float64) if values is None else values
    pairs = (patterns[:, :, None] * patterns[:, None, :] - patterns[:, :, None] * np.eye(k)) / (patterns.sum(1) - 1)[:, None, None]
    n = int(times.sum())
    weights = np.concatenate([times[None], rng.multinomial(n, times / n, size=resamples)]).astype(np.float64)
    coincidences = (weights @ pairs.reshape(len(times), k * k)).reshape(-1, k, k)
    found = _alphas(coincidences, level, numbers)
    return from_draws(float(found[0]), found[1:], n)


def _alphas(coincidences: Floats, level: Level, values: Floats) -> Floats:
    """(b,) alphas of coincidence matrices (b, k, k)."""
    marginals = coincidences.sum(2)
    totals = marginals.sum(1)
    differences = _differences(marginals, level, values)
    observed = (coincidences * differences).sum((1, 2)) / totals
    expected = (marginals[:, :, None] * marginals[:, None, :] * differences).sum((1, 2)) / (totals * (totals - 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected > 0, 1 - observed / expected, np.nan)


def _differences(marginals: Floats, level: Level, values: Floats) -> Floats:
    """(b, k, k) squared differences of answers; with level ordinal they depend on the marginals (b, k)."""
    match level:
        case "nominal":
            return np.asarray((1 - np.eye(values.size))[None])
        case "interval":
            return np.asarray(((values[:, None] - values[None, :]) ** 2)[None])
        case "ordinal":
            places = np.cumsum(marginals, axis=1) - marginals / 2  # the middle of each answer's ranks
            return np.asarray((places[:, :, None] - places[:, None, :]) ** 2)


def _patterns(counts: Floats) -> tuple[Floats, Floats]:
    """Distinct rows (m, answers) of the counts with two votes or more, and how many items have each (m,).

    Resampling items is drawing from a multinomial over these, which are few: that makes the bootstrap fast, and changes nothing.
    """
    used = counts[counts.sum(1) > 1]
    base = int(used.max(initial=0)) + 1
    if base ** counts.shape[1] >= 2**62:
        return used, np.ones(len(used))
    keys = used.astype(np.int64) @ (base ** np.arange(counts.shape[1], dtype=np.int64))
    _, first, times = np.unique(keys, return_index=True, return_counts=True)
    return used[first], times.astype(np.float64)

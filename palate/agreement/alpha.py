"""Do raters agree more than chance would have them? Raw agreement and Krippendorff's alpha, with bootstrap intervals over comparisons."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np

from palate.agreement.estimates import Estimate, Floats, Ints, at_edge, from_draws, wilson
from palate.agreement.votes import Votes, mirrored

Level = Literal["nominal", "ordinal", "interval"]
RESAMPLES = 1000

_CELLS = 4_000_000
"""Numbers that are drawn at once."""


def raw_agreement(
    counts: Floats,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
    cluster: Ints | None = None,
    mirror: Ints | None = None,
) -> Estimate:
    """Return the mean over items of the share of pairs of raters who agree; NaN where no item has two votes.

    Where all or none agree, every sample does, so the interval is Wilson's for as many clusters.

    Args:
        counts: (items, answers) votes; items with fewer than two are left out. Leave out the column of ties for agreement without ties.
        rng: draws the items again.
        resamples: number of bootstrap samples.
        cluster: (items,) number of the cluster of each item, such as the pairs of one ranking; it is drawn and counted as one. None takes
            each item by itself.
        mirror: what each answer becomes when an item's two sides change their names. Then equal seeds draw equal samples under both names.
    """
    patterns, times, drawn = _patterns(counts, cluster, mirror)
    if not times.size:
        return Estimate(math.nan, math.nan, math.nan, math.nan, 0)
    totals = patterns.sum(1)
    same = (patterns * (patterns - 1)).sum(1) / (totals * (totals - 1))
    sums = drawn.weights(np.stack([same, np.ones_like(same)], axis=1), rng, resamples)
    value = float(times @ same / times.sum())
    if value in {0.0, 1.0}:
        return at_edge(value, *wilson(value * drawn.n, drawn.n), drawn.n)
    return from_draws(value, sums[:, 0] / sums[:, 1], drawn.n)


def krippendorff_alpha(
    votes: Votes | Floats,
    rng: np.random.Generator,
    level: Level = "nominal",
    values: Floats | None = None,
    resamples: int = RESAMPLES,
    cluster: Ints | None = None,
    mirror: Ints | None = None,
) -> Estimate:
    """Krippendorff's alpha, 1 - Do / De, from the coincidence matrix; with a percentile interval from resampled items.

    Items with fewer than two votes are left out; raters may be missing anywhere. Ordinal differences are
    (sum of marginals from one answer to the other - half of both)^2, interval ones the squared difference of `values`.
    NaN when all votes have one answer: then there is no agreement beyond chance to measure. Where all or none agree, every sample does,
    so the interval is that of the agreement (Wilson's), in units of alpha.
    Source: Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability". The mirror is ours.

    Args:
        votes: the votes, or their (items, answers) counts.
        rng: draws the items again.
        level: whether answers are names, ranks or numbers.
        values: (answers,) the number of each answer for level interval; by default 0, 1, 2, ...
        resamples: number of bootstrap samples.
        cluster: (items,) number of the cluster of each item, such as the pairs of one ranking; it is drawn and counted as one. None takes
            each item by itself.
        mirror: (answers,) what each answer becomes when an item's two sides change their names. The coincidences are averaged over both
            names, so alpha does not depend on them. None where the answers have a meaning of their own.
    """
    counts = votes.counts() if isinstance(votes, Votes) else votes
    patterns, times, drawn = _patterns(counts, cluster, mirror)
    k = counts.shape[1]
    if not times.size:
        return Estimate(math.nan, math.nan, math.nan, math.nan, 0)
    numbers = np.arange(k, dtype=np.float64) if values is None else values
    pairs = (patterns[:, :, None] * patterns[:, None, :] - patterns[:, :, None] * np.eye(k)) / (patterns.sum(1) - 1)[:, None, None]
    flat = pairs.reshape(len(times), k * k)
    coincidences = np.concatenate([(times @ flat)[None], drawn.weights(flat, rng, resamples)]).reshape(-1, k, k)
    coincidences = mirrored(coincidences, mirror, axes=(1, 2))
    alphas = _alphas(coincidences, level, numbers)
    value, same = float(alphas[0]), float(np.trace(coincidences[0]) / coincidences[0].sum())
    if math.isnan(value) or not (same == 1 or (same == 0 and level == "nominal")):
        return from_draws(value, alphas[1:], drawn.n)
    marginals, total = coincidences[0].sum(1), coincidences[0].sum()
    differ = float((total**2 - marginals @ marginals) / (total * (total - 1)))  # by chance
    low, high = (1 - (1 - end) / differ for end in wilson(same * drawn.n, drawn.n))
    return at_edge(value, low, high, drawn.n)


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


@dataclass(frozen=True, slots=True, eq=False)
class _Clusters:
    """What the bootstrap draws: `kinds` (kinds, patterns) counts the patterns of votes in a kind of cluster, `times` (kinds,) the clusters.

    `kinds` is None where each item is a cluster.
    """

    kinds: Floats | None
    times: Floats

    @property
    def n(self) -> int:
        """Number of clusters."""
        return int(self.times.sum())

    def weights(self, columns: Floats, rng: np.random.Generator, resamples: int) -> Floats:
        """(resamples, c) sums of the patterns' columns (patterns, c) over clusters drawn with replacement."""
        of_kind = columns if self.kinds is None else self.kinds @ columns
        share, parts = self.times / self.n, []
        for start in range(0, resamples, step := max(1, _CELLS // self.times.size)):
            parts.append(rng.multinomial(self.n, share, size=min(step, resamples - start)) @ of_kind)
        return np.concatenate(parts)


def _patterns(counts: Floats, cluster: Ints | None, mirror: Ints | None) -> tuple[Floats, Floats, _Clusters]:
    """Return the distinct rows (m, answers) of counts with two votes or more, how many items have each (m,), and what the bootstrap draws.

    Resampling draws from a multinomial over kinds of clusters. There are few kinds, which makes the bootstrap fast; the result is the same.
    With a mirror, a row and its mirror image are one pattern.
    """
    rows = counts.sum(1) > 1
    used = counts[rows]
    base = int(used.max(initial=0)) + 1
    if base ** counts.shape[1] >= 2**62:
        patterns, of_item, times = used, np.arange(len(used)), np.ones(len(used))
    else:
        digits = base ** np.arange(counts.shape[1], dtype=np.int64)
        keys = used.astype(np.int64) @ digits
        if mirror is not None:
            turned = used[:, mirror].astype(np.int64) @ digits
            used = np.where((turned > keys)[:, None], used[:, mirror], used)
            keys = np.maximum(keys, turned)
        _, first, of_item, many = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        patterns, times = used[first], many.astype(np.float64)
    if cluster is None or not len(used):
        return patterns, times, _Clusters(None, times)
    _, number = np.unique(cluster[rows], return_inverse=True)
    if int(number.max()) + 1 == len(used):
        return patterns, times, _Clusters(None, times)
    order = np.lexsort((of_item, number))
    members = np.split(of_item[order], np.flatnonzero(np.diff(number[order])) + 1)
    kinds = Counter(one.tobytes() for one in members)
    tables = np.stack([np.bincount(np.frombuffer(one, dtype=of_item.dtype), minlength=len(patterns)) for one in kinds])
    return patterns, times, _Clusters(tables.astype(np.float64), np.array(list(kinds.values()), dtype=np.float64))

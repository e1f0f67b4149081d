"""Estimates with their uncertainty: means, shares, paired differences and the bootstrap.

Everything here works on one number per prompt (or per pair), so the intervals say how far the result could move with
other prompts. They say nothing about another training seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from palate.agreement.estimates import Z95, Estimate, share, wilson
from palate.core import DataError

__all__ = [
    "Z95",
    "Estimate",
    "bootstrap",
    "clustered_mean",
    "mean",
    "paired_difference",
    "paired_share_difference",
    "proportion",
    "share",
    "wilson",
    "win_rate",
]

Floats = NDArray[np.float64]


def mean(values: ArrayLike) -> Estimate:
    """The mean of `values` (n,) with SE = sd / sqrt(n) (unbiased sd) and the interval mean +- 1.96 SE.

    Values that do not differ tell nothing about the error, nor does a single one: SE and interval are then NaN, which excludes nothing.
    """
    data = _finite(values, "values")
    centre = float(data.mean())
    se = float(data.std(ddof=1) / math.sqrt(data.size)) if np.ptp(data) > 1e-12 * max(1.0, abs(centre)) else math.nan
    return Estimate(centre, se, centre - Z95 * se, centre + Z95 * se, int(data.size))


def proportion(flags: ArrayLike) -> Estimate:
    """The share of true entries with Wilson's interval; entries may be 0, 1 or 0.5 (a tie)."""
    data = _finite(flags, "flags")
    return share(float(data.sum()), int(data.size))


def paired_difference(values: ArrayLike, reference: ArrayLike) -> Estimate:
    """mean(values - reference) over the same units, with the SE of the differences (not of two separate means).

    Both arrays are (n,) in the same order of prompts. Pairing removes the spread between prompts, which is most of the error.
    """
    a, b = _finite(values, "values"), _finite(reference, "reference")
    if a.shape != b.shape:
        raise DataError(f"A paired difference needs the same prompts on both sides; got {a.size} and {b.size} values.")
    return mean(a - b)


def paired_share_difference(flags: ArrayLike, reference: ArrayLike) -> Estimate:
    """mean(flags - reference) over the same units, whose entries are 0 or 1, with the interval of Bonett and Price (2012).

    One is added to each of both counts of units that differ, and the interval is that of the adjusted shares. So it has a width where no
    unit differs, which the interval of `paired_difference` has not. Both arrays are (n,). With one unit the interval is NaN.
    """
    a, b = _finite(flags, "flags"), _finite(reference, "reference")
    if a.shape != b.shape:
        raise DataError(f"A paired difference needs the same prompts on both sides; got {a.size} and {b.size} values.")
    n = int(a.size)
    value = float((a - b).mean())
    if n < 2:
        return Estimate(value, math.nan, math.nan, math.nan, n)
    up, down = ((count + 1) / (n + 2) for count in (float((a > b).sum()), float((a < b).sum())))
    se = math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    return Estimate(value, se, max(-1.0, up - down - Z95 * se), min(1.0, up - down + Z95 * se), n)


def clustered_mean(groups: Sequence[ArrayLike]) -> Estimate:
    """The mean of all values, whose error is that of the groups' means: values of one group (completions of one prompt) are alike.

    Values that are NaN are left out, and groups without any other value.
    """
    means = [float(np.mean(kept)) for group in groups if (kept := _kept(group)).size]
    values = [value for group in groups for value in _kept(group).tolist()]
    centre, se = float(np.mean(values)), mean(means).se
    return Estimate(centre, se, centre - Z95 * se, centre + Z95 * se, len(means))


def _kept(group: ArrayLike) -> Floats:
    values = np.asarray(group, dtype=np.float64)
    kept: Floats = values[~np.isnan(values)]
    return kept


def bootstrap(
    values: ArrayLike, statistic: Callable[[Floats], float], *, seed: int, resamples: int = 2000, level: float = 0.95
) -> Estimate:
    """`statistic` of `values` with a percentile bootstrap interval: rows are drawn with replacement `resamples` times.

    `values` is (n,) or (n, k); a row is one unit. The same seed gives the same interval. `se` is the sd of the resamples.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.shape[0] < 1 or not np.isfinite(data).all():
        raise DataError(f"The bootstrap needs at least one row of finite numbers; got shape {data.shape}. Drop unscored rows first.")
    if resamples < 2 or not 0 < level < 1:
        raise DataError(f"The bootstrap needs resamples >= 2 and 0 < level < 1; got {resamples} and {level}.")
    rng = np.random.default_rng(seed)
    n = data.shape[0]
    draws = np.array([statistic(data[rng.integers(0, n, n)]) for _ in range(resamples)])
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Estimate(float(statistic(data)), float(draws.std(ddof=1)), float(low), float(high), n)


def win_rate(wins: int, losses: int, ties: int = 0) -> Estimate:
    """(wins + ties / 2) / all with Wilson's interval. Report the number of ties beside it."""
    return share(wins + 0.5 * ties, wins + losses + ties)


def _finite(values: ArrayLike | Sequence[float], name: str) -> Floats:
    """Return the values as a flat float array. Empty lists, more dimensions and non-finite numbers are refused."""
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or data.size == 0:
        raise DataError(f"`{name}` must be a flat list of at least one number; got shape {data.shape}.")
    bad = int((~np.isfinite(data)).sum())
    if bad:
        raise DataError(f"`{name}` holds {bad} of {data.size} entries that are not finite. Drop unscored rows and count them.")
    return data

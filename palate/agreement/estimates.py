"""An estimate with its uncertainty, Wilson's interval for shares, and intervals from resampled values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palate.core import DataError

Z95 = 1.959963984540054
"""Two-sided 95 % point of the standard normal distribution."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its standard error and interval. `n` counts the units (prompts, pairs) it was measured on."""

    value: float
    se: float
    low: float
    high: float
    n: int

    @property
    def z(self) -> float:
        """Distance from zero in standard errors: 0 when both are 0, infinite when only the standard error is, NaN when it is unknown."""
        if math.isnan(self.se):
            return math.nan
        if self.se > 0:
            return self.value / self.se
        return 0.0 if self.value == 0 else math.copysign(math.inf, self.value)

    @property
    def excludes_zero(self) -> bool:
        """True when the interval lies wholly on one side of zero."""
        return self.low > 0 or self.high < 0


def complement(one: Estimate) -> Estimate:
    """Return the estimate of 1 less a share."""
    return Estimate(1 - one.value, one.se, 1 - one.high, 1 - one.low, one.n)


def known(value: float) -> float | None:
    """Return `value`, or None where it is NaN: what is not known is null in JSON."""
    return None if math.isnan(value) else value


def json_values(value: Any) -> Any:
    """Return the value with lists for tuples, and None for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: json_values(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [json_values(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def share(successes: float, n: int, *, z: float = Z95) -> Estimate:
    """Return a share with Wilson's interval (Wilson 1927): the roots of (p - share)^2 = z^2 p (1 - p) / n.

    `successes` may hold halves: a tie counts one half of a win. The standard error is the plain binomial one.
    """
    if n < 1 or not 0 <= successes <= n:
        raise DataError(f"A share needs 0 <= successes <= n and n >= 1; got {successes} of {n}. Count the rows that were scored.")
    p = successes / n
    low, high = wilson(successes, n, z=z)
    return Estimate(p, math.sqrt(p * (1 - p) / n), low, high, n)


def wilson(successes: float, n: float, *, z: float = Z95) -> tuple[float, float]:
    """Return both ends of Wilson's score interval. They lie in [0, 1] also at 0 and n successes."""
    p = successes / n
    denominator = 1 + z * z / n
    centre = (p + z * z / (2 * n)) / denominator
    half = z / denominator * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # Rounding leaves 1e-17 instead of 0 at the ends, where the exact root is known.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


def from_normal(value: float, se: float, n: int) -> Estimate:
    """Return the estimate with the interval value +- 1.96 SE."""
    return Estimate(value, se, value - Z95 * se, value + Z95 * se, n)


def from_draws(value: float, draws: Floats, n: int) -> Estimate:
    """Return the estimate with the percentile interval of bootstrap `draws`. Undefined draws (NaN) are left out.

    The standard error is the draws' standard deviation; NaN where a draw is infinite. With fewer than two defined draws, or of fewer
    than two units, it and the interval are NaN: one unit is drawn again and again, and says nothing about others.
    """
    defined = draws[~np.isnan(draws)]
    if defined.size < 2 or n < 2:
        return Estimate(value, math.nan, math.nan, math.nan, n)
    low, high = np.quantile(defined, [0.025, 0.975], method="linear" if np.isfinite(defined).all() else "inverted_cdf")
    se = float(defined.std(ddof=1)) if np.isfinite(defined).all() else math.nan
    return Estimate(value, se, float(low), float(high), n)


def expanded_percentiles(value: float, draws: Floats, n: int) -> Estimate:
    """Return the estimate with the percentile interval of bootstrap `draws`, widened for few units; else as `from_draws`.

    Plain percentiles of a mean of n units are too narrow: by sqrt((n - 1) / n), and as the normal's 95 % point is to Student's t. They are
    taken further out, at Phi(-sqrt(n / (n - 1)) t). Source: Hesterberg 2015 ("What Teachers Should Know About the Bootstrap"), section 4.1.
    """
    plain = from_draws(value, draws, n)
    if math.isnan(plain.low):
        return plain
    tail = NormalDist().cdf(-math.sqrt(n / (n - 1)) * t95(n - 1))
    low, high = np.quantile(draws[~np.isnan(draws)], [tail, 1 - tail])
    return Estimate(value, plain.se, float(low), float(high), n)


def t95(freedom: int) -> float:
    """Return the two-sided 95 % point of Student's t, by its expansion about the normal's (Abramowitz & Stegun 26.7.5)."""
    z = Z95
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def at_edge(value: float, low: float, high: float, n: int) -> Estimate:
    """Return an estimate that all draws repeat, such as full agreement, with an interval that comes from elsewhere."""
    return Estimate(value, (high - low) / (2 * Z95), low, high, n)


def clustered_share(flags: Floats, cluster: Ints) -> Estimate:
    """Return the share of flags (n,) with an error clustered by `cluster` (n,).

    The interval is Wilson's for as many independent flags as have that error, between the clusters and the flags.
    """
    value = float(flags.mean())
    _, numbers = np.unique(cluster, return_inverse=True)
    parts = np.bincount(numbers, flags - value)
    groups = parts.size
    error = math.sqrt(float((parts**2).sum()) * groups / max(groups - 1, 1)) / flags.size
    worth = min(max(value * (1 - value) / error**2, groups), flags.size) if error else groups
    return Estimate(value, error, *wilson(value * worth, worth), groups)

"""Intervals of figures whose rows belong together: whole clusters are drawn, never single rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from palate.agreement.estimates import Estimate, expanded_percentiles
from palate.core import derive_seed

Floats = NDArray[np.float64]

RESAMPLES = 2000
_LEAST_FINITE = 0.95
"""A figure that cannot be computed in more than one of twenty resamples has no interval."""


def clustered(columns: ArrayLike, clusters: Sequence[Hashable], statistic: Callable[[Floats], Floats]) -> Estimate:
    """Return a function of sums with the expanded percentile bootstrap over clusters (Hesterberg 2015), 95 %; `n` counts rows.

    The same rows give the same interval. Standard error and interval are NaN with a single cluster, where resamples do not differ, and
    where more than 5 % of them do not have the figure. With fewer than about five clusters the interval is too narrow.

    Args:
        columns: (n, k) what each row adds to the k sums.
        clusters: (n,) the cluster of each row.
        statistic: takes sums (..., k) and returns the figure (...), NaN where it is not defined.
    """
    rows = np.asarray(columns, dtype=np.float64)
    numbers = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    sums = np.zeros((len(numbers), rows.shape[1]))
    np.add.at(sums, [numbers[name] for name in clusters], rows)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(sums.sum(0)))
        rng = np.random.default_rng(derive_seed(0, "cluster_bootstrap"))
        draws = np.asarray(statistic(rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), RESAMPLES) @ sums))
    finite = draws[np.isfinite(draws)]
    if len(sums) < 2 or len(finite) < _LEAST_FINITE * RESAMPLES or np.ptp(finite) <= 1e-12 * max(1.0, abs(value)):
        return Estimate(value, math.nan, math.nan, math.nan, len(rows))
    return replace(expanded_percentiles(value, finite, len(sums)), n=len(rows))


def ratio(above: ArrayLike, below: ArrayLike, clusters: Sequence[Hashable]) -> Estimate:
    """Return sum(above) / sum(below) with its interval over clusters. `above` and `below` are (n,)."""
    return clustered(np.column_stack([above, below]), clusters, lambda sums: sums[..., 0] / sums[..., 1])

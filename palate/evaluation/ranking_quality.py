"""The area under the ROC curve: how often a score is higher for what is true than for what is not."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from palate.agreement.estimates import Z95, Estimate, Floats, Ints


def auc(scores: ArrayLike, is_true: ArrayLike, cluster: ArrayLike) -> Estimate:
    """Return the share of pairs of a true and a false unit in which the true one has the higher score; equal scores count one half.

    The standard error is clustered: the influence of a cluster is the sum of the placements of its units, less the area. The interval is
    symmetric in log-odds, so it stays in [0, 1]. Where all pairs are in the right order, or none is, the spread says nothing. The
    interval then allows what as many clusters would not show with a probability of 97.5 %. NaN without both kinds of units.
    Source: Obuchowski 1997 for clustered data; Hanley and McNeil 1982 for the area.

    Args:
        scores: (n,) any numbers.
        is_true: (n,) whether a unit is true.
        cluster: (n,) number of the cluster of each unit, such as its prompt.
    """
    score, truth = np.asarray(scores, dtype=np.float64), np.asarray(is_true, dtype=np.bool_)
    _, number = np.unique(np.asarray(cluster), return_inverse=True)
    clusters = int(number.max()) + 1 if number.size else 0
    num_true, num_false = int(truth.sum()), int((~truth).sum())
    if not num_true or not num_false:
        return Estimate(math.nan, math.nan, math.nan, math.nan, clusters)
    places = _ranks(score)
    above = np.empty(score.size)
    above[truth] = (places[truth] - _ranks(score[truth])) / num_false
    above[~truth] = 1 - (places[~truth] - _ranks(score[~truth])) / num_true
    value = float(above[truth].mean())
    if value in (0.0, 1.0):
        fewest = min(np.unique(number[truth]).size, np.unique(number[~truth]).size)
        slack = 1 - 0.025 ** (1 / fewest)
        return Estimate(value, math.nan, max(value - slack, 0.0), min(value + slack, 1.0), clusters)
    influence = np.bincount(number, np.where(truth, (above - value) / num_true, (above - value) / num_false))
    se = math.sqrt(float((influence**2).sum()) * clusters / (clusters - 1)) if clusters > 1 else math.nan
    centre, spread = math.log(value / (1 - value)), Z95 * se / (value * (1 - value))
    low, high = (1 / (1 + math.exp(-max(min(end, 700.0), -700.0))) for end in (centre - spread, centre + spread))
    return Estimate(value, se, low, high, clusters)


def _ranks(values: Floats) -> Floats:
    """(n,) ranks from 1; equal values share the middle of theirs."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends: Ints = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[group], dtype=np.float64)

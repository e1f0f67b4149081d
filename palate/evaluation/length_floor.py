"""Whether a reward model is better than a rule that looks at the length alone, on the same pairs."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from palate.agreement.estimates import Z95, Estimate, clustered_share, from_normal
from palate.evaluation.calibration import vote_agreement

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def clustered_difference(values: Floats, cluster: Ints) -> Estimate:
    """Return the mean of values (n,) with an error clustered by `cluster` (n,); the error is NaN with a single cluster."""
    centre = float(values.mean())
    _, numbers = np.unique(cluster, return_inverse=True)
    parts = np.bincount(numbers, values - centre)
    groups = parts.size
    if groups < 2:
        return Estimate(centre, math.nan, math.nan, math.nan, groups)
    return from_normal(centre, math.sqrt(float((parts**2).sum()) * groups / (groups - 1)) / values.size, groups)


def rule_agreement(lengths: Floats, observed: Floats) -> tuple[Floats, str]:
    """Return what the better length rule agrees with (p,), and its name: `longer` or `shorter`.

    Args:
        lengths: lengths (p, 2) of the chosen and of the rejected side.
        observed: the share of votes (p,) for the chosen side.
    """
    longer = vote_agreement(lengths[:, 0] - lengths[:, 1], observed)
    return (longer, "longer") if longer.mean() >= 0.5 else (1 - longer, "shorter")


def gain_over_length(right: Floats, lengths: Floats, observed: ArrayLike, cluster: Ints) -> Estimate:
    """Return the accuracy less that of the better length rule on the same pairs, with an error clustered by prompt.

    The rule is chosen on these pairs, so it is a little too good. Where all differences are alike, their spread says nothing about the
    error. The interval is then that of the accuracy (Wilson's), less what the rule reaches.

    Args:
        right: the share of votes (p,) that the model agrees with.
        lengths: as in `rule_agreement`.
        observed: as there.
        cluster: the number (p,) of each pair's prompt.
    """
    rule, _ = rule_agreement(lengths, np.asarray(observed, dtype=np.float64))
    found = clustered_difference(right - rule, cluster)
    if found.se > 0:
        return found
    accuracy, floor = clustered_share(right, cluster), float(rule.mean())
    low, high = accuracy.low - floor, accuracy.high - floor
    return Estimate(found.value, (high - low) / (2 * Z95), low, high, found.n)

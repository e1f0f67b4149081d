"""The length rule: how well "the longer (or shorter) one wins" already predicts judgments. A reward model must beat it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from palate.core import DataError
from palate.evaluation.calibration import pair_accuracy
from palate.evaluation.intervals import Estimate, mean, proportion


@dataclass(frozen=True, slots=True)
class LengthRule:
    """Accuracy of both rules on the same pairs; pairs of equal length count one half in each. They sum to 1."""

    longer_wins: Estimate
    shorter_wins: Estimate
    equal: int

    @property
    def floor(self) -> Estimate:
        """The better of the two rules. It was picked on the same pairs, so near 1/2 it is a little optimistic."""
        return max(self.longer_wins, self.shorter_wins, key=lambda rule: rule.value)


def length_rule(chosen: ArrayLike, rejected: ArrayLike) -> LengthRule:
    """Both rules on lengths (p,) of the chosen and the rejected completions, in any one unit (tokens, characters)."""
    c, r = np.asarray(chosen, dtype=np.float64), np.asarray(rejected, dtype=np.float64)
    return LengthRule(pair_accuracy(c, r), pair_accuracy(r, c), int((c == r).sum()))


@dataclass(frozen=True, slots=True)
class LengthSummary:
    """Mean length with its interval, the 10th, 50th and 90th percentiles, and the share that ended by itself."""

    mean: Estimate
    p10: float
    median: float
    p90: float
    ended: Estimate


def length_summary(tokens: ArrayLike, ended: ArrayLike) -> LengthSummary:
    """The lengths (n,) in tokens and the flags (n,) "stopped by itself", summed up."""
    t, e = np.asarray(tokens, dtype=np.float64), np.asarray(ended, dtype=np.float64)
    if t.shape != e.shape:
        raise DataError(f"Lengths and end flags must describe the same completions; got {t.size} and {e.size}.")
    estimate = mean(t)
    p10, median, p90 = (float(q) for q in np.quantile(t, [0.1, 0.5, 0.9]))
    return LengthSummary(estimate, p10, median, p90, proportion(e))

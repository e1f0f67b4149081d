"""Reward models of several fits: their accuracy on the same pairs, its spread, and the difference of two sources of labels.

A reward model's accuracy depends on the noise of its labels, and also on the order of its data and its first heads. One fit per source
compares luck too. Where each fit has labels of its own, what is said of fits is said of labels as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palate.agreement.estimates import Z95, Estimate
from palate.core import DataError
from palate.data.jsonl import read_rows
from palate.evaluation.calibration import vote_agreement

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Fits:
    """What the fits of one source of labels say about the test pairs that are not ties.

    Attributes:
        right: 1 where a fit is on gold's side, 1/2 where it has no side (k fits, n pairs).
        margins: score of the better completion less that of the other, in logits (k, n).
        dimension: of each pair (n,).
        prompt: the number of each pair's prompt (n,).
    """

    right: Floats
    margins: Floats
    dimension: NDArray[np.str_]
    prompt: NDArray[np.int64]

    @staticmethod
    def read(rewards: Sequence[Path]) -> Fits:
        """Read the predictions of runs of stage `reward` that were tested on the same pairs.

        Raises:
            DataError: they were tested on others.
        """
        tables: list[list[Any]] = [[row for _, row in read_rows(path / "predictions.jsonl")] for path in rewards]
        pairs = [[(row["prompt"], row["dimension"], row["observed"]) for row in rows] for rows in tables]
        if any(own != pairs[0] for own in pairs):
            raise DataError(f"{rewards[0].parent}: these reward models were tested on different pairs. Give them the same held_out")
        observed = np.array([row["observed"] for row in tables[0]], dtype=np.float64)
        known = np.abs(observed - 0.5) > 1e-9
        gaps = np.array([[row["chosen"] - row["rejected"] for row in rows] for rows in tables], dtype=np.float64)[:, known]
        votes = (observed[known] > 0.5).astype(np.float64)
        kept = [row for row, is_known in zip(tables[0], known, strict=True) if is_known]
        return Fits(
            np.array([vote_agreement(gap, votes) for gap in gaps]),
            gaps * (2 * votes - 1),
            np.array([row["dimension"] for row in kept]),
            np.array([row["prompt"] for row in kept], dtype=np.int64),
        )

    def of(self, dimension: str) -> Fits:
        """Return the pairs of one dimension."""
        own = self.dimension == dimension
        return Fits(self.right[:, own], self.margins[:, own], self.dimension[own], self.prompt[own])

    @property
    def accuracies(self) -> Floats:
        """The accuracy of each fit (k,)."""
        return np.asarray(self.right.mean(1))

    @property
    def together(self) -> float:
        """The accuracy of the mean of all fits' scores, as an ensemble gives it."""
        return float(((1 + np.sign(self.margins.mean(0))) / 2).mean())


def fit_difference(one: Fits, other: Fits) -> Estimate:
    """Return the mean accuracy of `one` less that of `other` on the same pairs, with a 95 % interval over fits and prompts.

    The interval is value +- sqrt((t s)^2 + (1.96 e)^2). Here s^2 is the sum of both sources' variances of a mean over fits, t the
    quantile of Student's distribution for as many degrees of freedom as there are differences of fits, and e the error of the
    difference clustered by prompt. What fits and prompts do together counts in both parts, so the interval is a little too wide.
    `se` is sqrt(s^2 + e^2), and `n` counts the prompts.

    Raises:
        DataError: there are fewer than two fits of a source, whose spread is then unknown.
    """
    counts = (len(one.right), len(other.right))
    if min(counts) < 2:
        raise DataError(f"the spread of fits needs two of each source, got {counts[0]} and {counts[1]}")
    value = float(one.accuracies.mean() - other.accuracies.mean())
    over_fits = math.sqrt(sum(float(fits.accuracies.var(ddof=1)) / len(fits.right) for fits in (one, other)))
    gaps = one.right.mean(0) - other.right.mean(0) - value
    parts = np.bincount(np.unique(one.prompt, return_inverse=True)[1], gaps)
    over_prompts = math.sqrt(float((parts**2).sum()) * len(parts) / max(len(parts) - 1, 1)) / len(gaps)
    margin = math.hypot(student_95(sum(counts) - 2) * over_fits, Z95 * over_prompts)
    return Estimate(value, math.hypot(over_fits, over_prompts), value - margin, value + margin, len(parts))


def mean_difference(kitchens: Sequence[Estimate]) -> Estimate:
    """Return the mean over kitchens, with the interval over fits and prompts of these kitchens. Other kitchens may differ by more."""
    value = sum(one.value for one in kitchens) / len(kitchens)
    margin = math.hypot(*((one.high - one.low) / 2 for one in kitchens)) / len(kitchens)
    return Estimate(value, math.hypot(*(one.se for one in kitchens)) / len(kitchens), value - margin, value + margin, len(kitchens))


def student_95(degrees: int) -> float:
    """Return the two-sided 95 % point of Student's distribution, to 0.02 from 3 degrees of freedom and exactly below.

    Source: the expansion in Abramowitz and Stegun 1964, 26.7.5.
    """
    if degrees < 3:
        return {1: 12.706, 2: 4.303}[degrees]
    z = Z95
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / float(degrees) ** power for power, term in enumerate(terms, 1))

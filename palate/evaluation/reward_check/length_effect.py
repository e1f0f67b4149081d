"""How far the scores follow the length of a completion, with its quality held fixed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from palate.agreement.estimates import Estimate, clustered_share, from_normal, known
from palate.evaluation.calibration import vote_agreement
from palate.evaluation.reward_check.score_book import Floats, Ints, ScoredPairs


@dataclass(frozen=True)
class LengthEffect:
    """What length does to the scores.

    Attributes:
        effect: standard deviations of the score difference for one of the length difference, at equal quality; above 0 for longer.
        prefers: the length that the effect prefers, `longer` or `shorter`.
        follows: how often the model picks the side of that length.
        agreeing: accuracy on pairs whose better side has that length; None without any.
        against: accuracy on pairs whose better side has the other length; None without any.
    """

    effect: Estimate
    prefers: str
    follows: Estimate
    agreeing: Estimate | None
    against: Estimate | None

    @property
    def is_fault(self) -> bool:
        """Whether length decides: the model is right more often than not only where the better side has the length that it prefers."""
        if self.agreeing is None or self.against is None:
            return False
        return self.effect.excludes_zero and self.agreeing.low > 0.5 and self.against.high < 0.5


def length_effect(pairs: ScoredPairs) -> LengthEffect | None:
    """Return the effect of length; None where all pairs have sides of one length, or scores that do not differ.

    With y the score difference and x the length difference (chosen less rejected, each divided by its root mean square), least squares
    gives y = a + b x. `a` is what quality is worth where lengths are equal, and `b` is the effect. Its error is clustered by prompt.
    """
    x, y = pairs.tokens[:, 0] - pairs.tokens[:, 1], pairs.difference
    sizes = [math.sqrt(float((values**2).mean())) for values in (x, y)]
    if not all(sizes) or np.ptp(x) == 0:
        return None
    effect = _slope(x / sizes[0], y / sizes[1], pairs.prompt)
    sign = 1.0 if effect.value >= 0 else -1.0
    differs = x != 0
    follows = vote_agreement(pairs.difference[differs], (1 + sign * np.sign(x[differs])) / 2)
    better = np.sign(pairs.observed - 0.5)
    is_with, is_against = better * np.sign(x) * sign > 0, better * np.sign(x) * sign < 0
    parts = [clustered_share(pairs.right[flags], pairs.prompt[flags]) if flags.any() else None for flags in (is_with, is_against)]
    return LengthEffect(effect, "longer" if sign > 0 else "shorter", clustered_share(follows, pairs.prompt[differs]), *parts)


def length_of_rows(rows: Sequence[Mapping[str, float | str]]) -> dict[str, float | None] | None:
    """Return the effect of length with its interval, from the rows of `predictions.jsonl`; None as `length_effect`."""
    columns = ("chosen", "rejected", "chosen_tokens", "rejected_tokens", "observed", "prompt")
    values = {name: np.array([float(row[name]) for row in rows]) for name in columns}
    scores, tokens = (np.stack([values[name] for name in pair], axis=1) for pair in (columns[:2], columns[2:4]))
    found = length_effect(ScoredPairs((), scores, np.empty((0, len(rows))), values["observed"], tokens, values["prompt"].astype(np.int64)))
    effect = None if found is None else found.effect
    return None if effect is None else {"effect": effect.value, "low": known(effect.low), "high": known(effect.high)}


def _slope(x: Floats, y: Floats, cluster: Ints) -> Estimate:
    """Return the slope of y on x with an intercept, and its error by clusters (the sandwich formula)."""
    design = np.stack([np.ones_like(x), x], axis=1)
    inverse = np.linalg.pinv(design.T @ design)
    beta = inverse @ design.T @ y
    residual = y - design @ beta
    _, numbers = np.unique(cluster, return_inverse=True)
    groups = int(numbers.max()) + 1
    if groups < 3:
        return Estimate(float(beta[1]), math.nan, math.nan, math.nan, groups)
    parts = np.stack([np.bincount(numbers, design[:, k] * residual) for k in (0, 1)], axis=1)
    covariance = inverse @ (parts.T @ parts) @ inverse * groups / (groups - 1)
    return from_normal(float(beta[1]), math.sqrt(max(float(covariance[1, 1]), 0.0)), groups)

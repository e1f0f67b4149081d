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
        correlation: the same over all pairs, whichever side won: how far the scores go with length, for good reasons or bad ones.
        prefers: the length that the effect prefers, `longer` or `shorter`.
        follows: how often the model picks the side of that length.
        agreeing: accuracy on pairs whose better side has that length; None without any.
        against: accuracy on pairs whose better side has the other length; None without any.
    """

    effect: Estimate
    correlation: Estimate
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
    gives y = a + b x. `a` is what quality is worth where lengths are equal, and `b` is the effect. Without `a` the slope is the
    correlation: it takes no account of who won. Errors are clustered by prompt.

    Which side won depends on quality and on length. So where judges like length, `b` is below 0 for scores that follow quality alone, and
    the correlation is 0 for them if longer completions are not better.
    """
    x, y = pairs.tokens[:, 0] - pairs.tokens[:, 1], pairs.difference
    sizes = [math.sqrt(float((values**2).mean())) for values in (x, y)]
    if not all(sizes) or np.ptp(x) == 0:
        return None
    effect, correlation = (
        _slope(x / sizes[0], y / sizes[1], pairs.prompt, with_intercept=with_intercept) for with_intercept in (True, False)
    )
    sign = 1.0 if effect.value >= 0 else -1.0
    differs = x != 0
    follows = vote_agreement(pairs.difference[differs], (1 + sign * np.sign(x[differs])) / 2)
    better = np.sign(pairs.observed - 0.5)
    is_with, is_against = better * np.sign(x) * sign > 0, better * np.sign(x) * sign < 0
    parts = [clustered_share(pairs.right[flags], pairs.prompt[flags]) if flags.any() else None for flags in (is_with, is_against)]
    return LengthEffect(effect, correlation, "longer" if sign > 0 else "shorter", clustered_share(follows, pairs.prompt[differs]), *parts)


def length_of_rows(rows: Sequence[Mapping[str, float | str]]) -> dict[str, dict[str, float | None]] | None:
    """Return the effect of length and the correlation with their intervals, from rows of `predictions.jsonl`; None as `length_effect`."""
    columns = ("chosen", "rejected", "chosen_tokens", "rejected_tokens", "observed", "prompt")
    values = {name: np.array([float(row[name]) for row in rows]) for name in columns}
    scores, tokens = (np.stack([values[name] for name in pair], axis=1) for pair in (columns[:2], columns[2:4]))
    found = length_effect(ScoredPairs((), scores, np.empty((0, len(rows))), values["observed"], tokens, values["prompt"].astype(np.int64)))
    if found is None:
        return None
    parts = {"effect": found.effect, "correlation": found.correlation}
    return {name: {"value": one.value, "low": known(one.low), "high": known(one.high)} for name, one in parts.items()}


def _slope(x: Floats, y: Floats, cluster: Ints, *, with_intercept: bool) -> Estimate:
    """Return the slope of y on x, with an intercept or not, and its error by clusters (the sandwich formula)."""
    design = np.stack([np.ones_like(x), x] if with_intercept else [x], axis=1)
    inverse = np.linalg.pinv(design.T @ design)
    beta = inverse @ design.T @ y
    residual = y - design @ beta
    _, numbers = np.unique(cluster, return_inverse=True)
    groups = int(numbers.max()) + 1
    if groups < 3:
        return Estimate(float(beta[-1]), math.nan, math.nan, math.nan, groups)
    parts = np.stack([np.bincount(numbers, column * residual) for column in design.T], axis=1)
    covariance = inverse @ (parts.T @ parts) @ inverse * groups / (groups - 1)
    return from_normal(float(beta[-1]), math.sqrt(max(float(covariance[-1, -1]), 0.0)), groups)

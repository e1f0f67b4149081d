"""Objectives of value models, which predict the reward still to come: regression with or without a clip."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from palate.core import ConfigError
from palate.objectives.reduce import Ratio, Sums, check_shapes, masked, masked_ratio
from palate.objectives.reductions import TokenWeights


@dataclass(frozen=True)
class ValueTokens:
    """Values at sampled tokens, all (n,).

    Attributes:
        values: predictions of the value model that is being learned.
        old_values: its predictions when the batch was sampled; no gradient flows here.
        returns: targets, advantage plus old value; no gradient flows here.
        mask: bool, True where the token counts.
    """

    values: Tensor
    old_values: Tensor
    returns: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        """Check the shapes and the type of the mask."""
        check_shapes("ValueTokens", vars(self))

    @property
    def masked_values(self) -> Tensor:
        """Return values (n,), differentiable, 0 outside the mask."""
        return masked(self.values, self.mask)

    @property
    def masked_old_values(self) -> Tensor:
        """Return old values (n,), 0 outside the mask."""
        return masked(self.old_values.detach(), self.mask)

    @property
    def targets(self) -> Tensor:
        """Return the returns (n,), 0 outside the mask."""
        return masked(self.returns.detach(), self.mask)


@dataclass(frozen=True, kw_only=True)
class ClippedValue:
    """Half the squared error per token, of the value or of the value clipped near its old value, whichever is larger.

    `0.5 max((V - R)^2, (clip(V, old - clip, old + clip) - R)^2)`. `clip` is in reward units and suits rewards of standard
    deviation 1; infinity turns it off. The factor 0.5 is included; the weight of this loss beside the policy's (0.1) is not.

    Source: lm-human-preferences, train_policy.py (the code of Ziegler et al. 2019).

    Attributes:
        clip: how far a value may move from its old value before the clipped error counts, in reward units.

    Metrics: `error` (mean squared), `clip_fraction`, and the means that `explained_variance` needs: `residual`, `residual_squared`,
    `return`, `return_squared`.
    """

    kind: Literal["clipped_value"] = "clipped_value"
    clip: float = 0.2

    def __post_init__(self) -> None:
        """Check the setting."""
        if not self.clip > 0:
            raise ConfigError(f"clipped_value: clip must be > 0, got {self.clip}; use 0.2, or plain_value for no clip")

    def __call__(self, inputs: ValueTokens, weights: TokenWeights | None = None) -> Sums:
        """Return sums over tokens, weighted by a reduction (None: mean over tokens); differentiable in `values`."""
        old, values, returns = inputs.masked_old_values, inputs.masked_values, inputs.targets
        unclipped = (values - returns).square()
        clipped = (old + (values - old).clamp(-self.clip, self.clip) - returns).square()
        clip_fraction = masked_ratio((clipped > unclipped).to(unclipped.dtype), inputs.mask)
        weights = weights or TokenWeights.equal(inputs.mask)
        loss = 0.5 * weights.total(torch.maximum(unclipped, clipped))
        return Sums(loss=loss, count=weights.count, metrics={**_errors(inputs), "clip_fraction": clip_fraction})


@dataclass(frozen=True, kw_only=True)
class PlainValue:
    """Half the squared error, per token: `0.5 (V - R)^2`. Use it for rewards of any scale, where no clip fits.

    Source: Schulman et al. 2017 eq. 9, without a clip.

    Metrics: as `ClippedValue` without `clip_fraction`.
    """

    kind: Literal["plain_value"] = "plain_value"

    def __call__(self, inputs: ValueTokens, weights: TokenWeights | None = None) -> Sums:
        """Return sums over tokens, weighted by a reduction (None: mean over tokens); differentiable in `values`."""
        weights = weights or TokenWeights.equal(inputs.mask)
        loss = 0.5 * weights.total((inputs.masked_values - inputs.targets).square())
        return Sums(loss=loss, count=weights.count, metrics=_errors(inputs))


def _errors(inputs: ValueTokens) -> dict[str, Ratio]:
    """Return the squared error, and the metrics that give explained variance."""
    returns = inputs.targets
    residual = (inputs.masked_values - returns).detach()
    metrics: dict[str, Ratio] = {
        "error": masked_ratio(residual.square(), inputs.mask),
        "residual": masked_ratio(residual, inputs.mask),
        "residual_squared": masked_ratio(residual.square(), inputs.mask),
        "return": masked_ratio(returns, inputs.mask),
        "return_squared": masked_ratio(returns.square(), inputs.mask),
    }
    return metrics


def explained_variance(means: Mapping[str, float]) -> float:
    """Return `1 - Var(residual) / Var(return)` from the means of `ClippedValue`'s metrics; NaN when all returns are equal.

    1 is a perfect value model, 0 is as good as a constant, and below 0 is worse. It cannot be averaged over micro-batches, so the
    objectives report its ingredients.
    """
    returns = means["return_squared"] - means["return"] ** 2
    residuals = means["residual_squared"] - means["residual"] ** 2
    return 1 - residuals / returns if returns > 0 else math.nan


ValueObjective = ClippedValue | PlainValue

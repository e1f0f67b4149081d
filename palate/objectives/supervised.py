"""Supervised fine-tuning: cross-entropy on the tokens of demonstrations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from palate.objectives.reduce import Sums, check_shapes


@dataclass(frozen=True)
class TokenLogps:
    """Learned tokens of demonstrations.

    Attributes:
        logps: (n,) nats, log-probability of each token.
        weights: (n,) >= 0, how much each token counts; 0 leaves it out.
    """

    logps: Tensor
    weights: Tensor

    def __post_init__(self) -> None:
        """Checks the shapes."""
        check_shapes("TokenLogps", vars(self))


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """Weighted negative log-likelihood of the demonstrated tokens: `sum -w logp`, per `sum w`.

    The unit is the token, so long demonstrations count more than short ones; weights of 1/length undo that.

    Metrics: `nll` (nats a token).
    """

    kind: Literal["cross_entropy"] = "cross_entropy"

    def __call__(self, inputs: TokenLogps) -> Sums:
        """Sums over tokens; differentiable in `logps`."""
        # A token left out may have log-probability -inf: 0 * inf would be NaN.
        logps = torch.where(inputs.weights > 0, inputs.logps, torch.zeros_like(inputs.logps))
        return self.formed(-(inputs.weights * logps).sum(), inputs.weights)

    def formed(self, summed_nll: Tensor, weights: Tensor) -> Sums:
        """The same Sums for a model that formed `sum -w logp` itself (see `logps.summed_nll`)."""
        count = weights.detach().sum()
        return Sums(loss=summed_nll, count=count, metrics={"nll": (summed_nll.detach(), count)})


SupervisedObjective = CrossEntropy

"""Supervised learning: cross-entropy on the tokens of demonstrations, alone or mixed into policy training (PPO-ptx)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from palate.core import ConfigError
from palate.objectives.reduce import Sums, check_shapes


@dataclass(frozen=True)
class TokenLogps:
    """Learned tokens of demonstrations.

    Attributes:
        logps: (n,) nats, log-probability of each token.
        weights: (n,) >= 0, the weight of each token; 0 leaves it out.
    """

    logps: Tensor
    weights: Tensor

    def __post_init__(self) -> None:
        """Check the shapes."""
        check_shapes("TokenLogps", vars(self))


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """Weighted negative log-likelihood of the demonstrated tokens: `sum -w logp`, per `sum w`.

    The unit is the token, so long demonstrations count more than short ones. Weights of 1 / length undo that.

    Metrics: `nll` (nats per token).
    """

    kind: Literal["cross_entropy"] = "cross_entropy"

    def __call__(self, inputs: TokenLogps) -> Sums:
        """Return sums over tokens; differentiable in `logps`."""
        # A token left out may have log-probability -inf: 0 * inf would be NaN.
        logps = torch.where(inputs.weights > 0, inputs.logps, torch.zeros_like(inputs.logps))
        return self.from_summed_nll(-(inputs.weights * logps).sum(), inputs.weights)

    def from_summed_nll(self, summed_nll: Tensor, weights: Tensor) -> Sums:
        """Return the same sums for a model that computed `sum -w logp` itself (see `logps.summed_nll`)."""
        count = weights.detach().sum()
        return Sums(loss=summed_nll, count=count, metrics={"nll": (summed_nll.detach(), count)})


@dataclass(frozen=True, kw_only=True)
class PretrainingMix:
    """`E[reward - beta KL] + coef E_pretraining[log pi]`: PPO-ptx, which adds the language model's own loss so that it does not forget.

    The two expectations have different counts (the policy's tokens or completions, the other data's tokens), and the learner divides
    once, by the policy's count. So a micro-batch of the other data is scaled by the ratio of the two counts of the *whole* step and has
    a count of 0. The step is then `policy loss / its count + coef * cross-entropy / its count`, however both are cut.

    Source: Ouyang et al. 2022 (InstructGPT) eq. 2; coef 27.8. The paper does not say whether log pi is of a token or of a
    sequence. Palate takes the mean over tokens.

    Attributes:
        coef: weight of the cross-entropy, in reward units per nat.

    Metrics: those of the cross-entropy, with the prefix `pretraining_`.
    """

    coef: float = 27.8

    def __post_init__(self) -> None:
        """Check the setting."""
        if not 0 < self.coef < math.inf:
            raise ConfigError(f"pretraining: coef must be > 0 and finite, got {self.coef}; 27.8 is InstructGPT's")

    def __call__(self, sums: Sums, *, total: float, policy_total: float) -> Sums:
        """Return the sums of a micro-batch of the other data, scaled to be added to the policy's micro-batches of the same step.

        Args:
            sums: cross-entropy of the micro-batch.
            total: count of the cross-entropy over all micro-batches of this step.
            policy_total: count of the policy's loss over all micro-batches of this step.
        """
        if not total > 0:
            raise ValueError(f"the pretraining data of a step must hold tokens to learn, got a count of {total}")
        metrics = {f"pretraining_{name}": ratio for name, ratio in sums.metrics.items()}
        return Sums(loss=sums.loss * (self.coef * policy_total / total), count=torch.zeros_like(sums.count), metrics=metrics)


SupervisedObjective = CrossEntropy

"""Supervised fine-tuning: cross-entropy on the tokens of demonstrations."""

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


@dataclass(frozen=True, kw_only=True)
class PretrainingMix:
    """`E[reward - beta KL] + coef E_pretraining[log pi]`: cross-entropy on other data, at a weight.

    The two expectations have counts of their own (the policy's tokens or completions, the other data's tokens), and the learner divides
    once, by the policy's. So a micro-batch of the other data is scaled by the ratio of the two counts of the *whole* step, and
    counts nothing itself: the step is then `policy loss / its count + coef * cross-entropy / its count`, however both are cut.

    Source: Ouyang et al. 2022 (InstructGPT) eq. 2; coef 27.8. The paper does not say whether log pi is of a token or of a
    sequence; here it is the mean over tokens.

    Attributes:
        coef: weight of the cross-entropy, reward units a nat.

    Metrics: those of the cross-entropy with `pretraining_` before their names.
    """

    coef: float = 27.8

    def __post_init__(self) -> None:
        """Checks the setting."""
        if not 0 < self.coef < math.inf:
            raise ConfigError(f"pretraining: coef must be > 0 and finite, got {self.coef}; 27.8 is InstructGPT's")

    def __call__(self, sums: Sums, *, total: float, policy_total: float) -> Sums:
        """A micro-batch of the other data, ready to stand among the policy's in one step.

        Args:
            sums: its cross-entropy.
            total: count of the cross-entropy over all its micro-batches of this step.
            policy_total: count of the policy's loss over all its micro-batches of this step.
        """
        if not total > 0:
            raise ValueError(f"the pretraining data of a step must hold tokens to learn, got a count of {total}")
        metrics = {f"pretraining_{name}": ratio for name, ratio in sums.metrics.items()}
        return Sums(loss=sums.loss * (self.coef * policy_total / total), count=torch.zeros_like(sums.count), metrics=metrics)


SupervisedObjective = CrossEntropy

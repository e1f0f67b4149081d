"""Estimators of KL(policy || reference), and the KL penalty in the reward or in the loss.

The estimators take log-probabilities of tokens *sampled from the policy*. As a measurement, k1 and k3 agree on average. In the reward,
where no gradient flows through them, only k1 penalises KL(policy || reference). As a loss, the gradient of k1 is zero on average, that of
k2 is the gradient of KL(policy || reference), and that of k3 is the gradient of KL(reference || policy). So the penalty in the reward and
the penalty in the loss are two different regularisers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from palate.core import ConfigError
from palate.objectives.kl.controls import FixedKL, KLControl
from palate.objectives.reduce import Sums, check_shapes, masked, masked_ratio
from palate.objectives.reductions import TokenWeights

LOG_RATIO_LIMIT = 20.0
"""Limit of log-ratios in a loss, in nats. Beyond it `exp` overflows, and 0 * inf makes the gradient NaN."""


def k1(logps: Tensor, reference_logps: Tensor) -> Tensor:
    """Return `l = logp - reference`, nats, shape of `logps`: unbiased, and negative for some tokens."""
    return logps - reference_logps


def k2(logps: Tensor, reference_logps: Tensor) -> Tensor:
    """Return `l^2 / 2`, nats, shape of `logps`: never negative, biased, with the gradient of KL(policy || reference)."""
    return 0.5 * (logps - reference_logps).square()


def k3(logps: Tensor, reference_logps: Tensor) -> Tensor:
    """Return `exp(-l) - 1 + l`, nats, shape of `logps`: unbiased and never negative (Schulman 2020)."""
    log_ratio = logps - reference_logps
    return (-log_ratio).expm1() + log_ratio


Estimator = Literal["k1", "k2", "k3"]

ESTIMATORS: Mapping[Estimator, Callable[[Tensor, Tensor], Tensor]] = {"k1": k1, "k2": k2, "k3": k3}


@dataclass(frozen=True)
class KLTokens:
    """Tokens for the KL penalty in the loss, all (n,).

    Attributes:
        logps: nats under the policy being learned.
        reference_logps: nats under the reference; no gradient flows here.
        mask: bool, True where the token counts.
    """

    logps: Tensor
    reference_logps: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        """Check the shapes and the type of the mask."""
        check_shapes("KLTokens", vars(self))


@dataclass(frozen=True, kw_only=True)
class KLPenalty:
    """The KL penalty that keeps the policy near the reference.

    Place `reward` subtracts `coef * estimate` from the reward of each token, without gradient. With k1 the best policy is `reference *
    exp(reward / coef)`, normalised; with k2 and k3 it is another.

    Place `loss` adds `coef * estimate` to the loss of each token, with gradient and with the weights of the reduction. With k2 the mean
    gradient is that of KL(policy || reference) of the *next token*, so earlier tokens do not pay for later ones. With k3 (GRPO) it is that
    of KL(reference || policy), whose optimum is another policy. k1 has no gradient on average, so this place refuses it.

    All of this holds for tokens sampled from the current policy; further updates on the same batch deviate from it.

    Source: reward, k1: Ziegler et al. 2019 eq. 2. Loss, k3: Shao et al. 2024 eq. 4. Estimators: Schulman 2020.

    Attributes:
        estimator: k1, k2 or k3; use k1 in the reward.
        place: reward or loss.
        control: how the coefficient is set.

    Metrics: in the loss `kl_loss` (mean estimate, nats per token, without the coefficient).
    """

    estimator: Estimator = "k1"
    place: Literal["reward", "loss"] = "reward"
    control: KLControl = field(default_factory=FixedKL)

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.place == "loss" and self.estimator == "k1":
            raise ConfigError("kl: k1 in the loss has no gradient on average; use estimator k3 (GRPO) or k2, or place it in the reward")

    def in_reward(self, logps: Tensor, reference_logps: Tensor, coef: float) -> Tensor:
        """Return what to subtract from each token's reward (n,), reward units, without gradient; zeros where the place is the loss."""
        check_shapes("KLPenalty", {"logps": logps, "reference_logps": reference_logps})
        if self.place == "loss":
            return torch.zeros_like(logps.detach())
        return coef * ESTIMATORS[self.estimator](logps.detach(), reference_logps.detach())

    def in_loss(self, inputs: KLTokens, coef: float, weights: TokenWeights | None = None) -> Sums:
        """Return `coef * estimate` summed over tokens, weighted by a reduction (None: mean over tokens); differentiable in `logps`.

        The loop adds it to the policy's loss under the same weights, and divides both by the same count.
        """
        log_ratios = masked(inputs.logps - inputs.reference_logps.detach(), inputs.mask).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
        nats = ESTIMATORS[self.estimator](log_ratios, torch.zeros_like(log_ratios))
        weights = weights or TokenWeights.equal(inputs.mask)
        return Sums(loss=coef * weights.total(nats), count=weights.count, metrics={"kl_loss": masked_ratio(nats, inputs.mask)})

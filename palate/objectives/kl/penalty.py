"""Where the price of KL is paid: in the reward, or in the loss. These are two regularisers, not two ways to write one."""

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
"""In a loss, log-ratios are held within +-20 nats: beyond, `exp` overflows and 0 * inf makes the gradient NaN."""


def k1(logps: Tensor, reference_logps: Tensor) -> Tensor:
    """`l = logp - reference`, nats, shape of `logps`: unbiased, may be negative for single tokens."""
    return logps - reference_logps


def k2(logps: Tensor, reference_logps: Tensor) -> Tensor:
    """`l^2 / 2`, nats, shape of `logps`: never negative, biased, its gradient is that of KL(policy || reference)."""
    return 0.5 * (logps - reference_logps).square()


def k3(logps: Tensor, reference_logps: Tensor) -> Tensor:
    """`exp(-l) - 1 + l`, nats, shape of `logps`: unbiased and never negative (Schulman 2020)."""
    log_ratio = logps - reference_logps
    return (-log_ratio).expm1() + log_ratio


Estimator = Literal["k1", "k2", "k3"]

ESTIMATORS: Mapping[Estimator, Callable[[Tensor, Tensor], Tensor]] = {"k1": k1, "k2": k2, "k3": k3}


@dataclass(frozen=True)
class KLTokens:
    """Tokens for KL in the loss, all (n,).

    Attributes:
        logps: nats under the policy being learned.
        reference_logps: nats under the reference; no gradient flows here.
        mask: bool, True where the token counts.
    """

    logps: Tensor
    reference_logps: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        """Checks the shapes and the mask's type."""
        check_shapes("KLTokens", vars(self))


@dataclass(frozen=True, kw_only=True)
class KLPenalty:
    """What keeps the policy near the reference.

    `reward`: each token's reward loses `coef * estimate`, a constant for the gradient; with k1 the best policy is `reference *
    exp(reward / coef)`, normalised, with k2 and k3 another. `loss`: `coef * estimate` is added to the loss of each token and
    differentiated, with the reduction's weights. With k2 its mean gradient is that of KL(policy || reference) of the *next token*:
    later tokens are not charged to earlier ones. With k3 (GRPO) it is that of KL(reference || policy), whose optimum is another
    policy. k1 has no gradient on average, so it is refused there. Both hold for tokens sampled from the policy as it stands; later
    updates on a batch drift from that.

    Source: reward, k1: Ziegler et al. 2019 eq. 2. Loss, k3: Shao et al. 2024 eq. 4. Estimators: Schulman 2020.

    Attributes:
        estimator: k1, k2 or k3; k1 in the reward.
        place: reward or loss.
        control: how the price is set.

    Metrics: in the loss `kl_loss` (mean estimate, nats a token, without its price).
    """

    estimator: Estimator = "k1"
    place: Literal["reward", "loss"] = "reward"
    control: KLControl = field(default_factory=FixedKL)

    def __post_init__(self) -> None:
        """Checks the settings."""
        if self.place == "loss" and self.estimator == "k1":
            raise ConfigError("kl: k1 in the loss has no gradient on average; take estimator k3 (GRPO) or k2, or place it in the reward")

    def in_reward(self, logps: Tensor, reference_logps: Tensor, coef: float) -> Tensor:
        """What is taken off each token's reward (n,), reward units, without gradient; zeros where the place is the loss."""
        check_shapes("KLPenalty", {"logps": logps, "reference_logps": reference_logps})
        if self.place == "loss":
            return torch.zeros_like(logps.detach())
        return coef * ESTIMATORS[self.estimator](logps.detach(), reference_logps.detach())

    def in_loss(self, inputs: KLTokens, coef: float, weights: TokenWeights | None = None) -> Sums:
        """`coef * estimate` summed over tokens, weighted by a reduction (none: mean over tokens); differentiable in `logps`.

        The loop adds it to the policy's loss under the same weights, and divides both by the one count.
        """
        log_ratios = masked(inputs.logps - inputs.reference_logps.detach(), inputs.mask).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
        nats = ESTIMATORS[self.estimator](log_ratios, torch.zeros_like(log_ratios))
        weights = weights or TokenWeights.equal(inputs.mask)
        return Sums(loss=coef * weights.total(nats), count=weights.count, metrics={"kl_loss": masked_ratio(nats, inputs.mask)})

"""What all policy losses share: inputs, ratios, and metrics of how far the policy has moved."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from palate.objectives.reduce import Ratio, Sums, check_shapes, masked, masked_ratio, maximum_ratio
from palate.objectives.reductions import TokenWeights

LOG_RATIO_LIMIT = 20.0
"""Limit of log-ratios before `exp`, in nats. Beyond it the ratio overflows, and 0 * inf makes the gradient NaN."""


@dataclass(frozen=True)
class PolicyTokens:
    """Tokens sampled by the policy, all (n,).

    Attributes:
        logps: nats under the policy being learned, at the temperature of sampling.
        old_logps: nats under the policy that sampled; no gradient flows here.
        advantages: how much better than expected; no gradient flows here. Importance weights of another engine's samples are multiplied in.
        mask: bool, True where the token counts.
        completion: long, number of each token's completion; all tokens of a completion must be present.
    """

    logps: Tensor
    old_logps: Tensor
    advantages: Tensor
    mask: Tensor
    completion: Tensor

    def __post_init__(self) -> None:
        """Check the shapes and the type of the mask."""
        check_shapes("PolicyTokens", vars(self))

    @property
    def masked_advantages(self) -> Tensor:
        """Return advantages (n,) without gradient, 0 outside the mask."""
        return masked(self.advantages.detach(), self.mask)

    @property
    def log_ratios(self) -> Tensor:
        """Return `logp - old` (n,), nats, differentiable; 0 outside the mask."""
        return masked(self.logps - self.old_logps.detach(), self.mask)


def exp_held(log_ratios: Tensor) -> Tensor:
    """Return ratios, shape of `log_ratios`, differentiable where the log-ratio is within its limit."""
    return log_ratios.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()


def sums_of(inputs: PolicyTokens, losses: Tensor, ratios: Tensor, weights: TokenWeights | None, is_clipped: Tensor | None = None) -> Sums:
    """Return sums of token losses (n,), with the metrics that all policy losses have.

    Args:
        inputs: the tokens.
        losses: (n,), finite, 0 outside the mask.
        ratios: (n,) the ratios that the loss compares with its clip, for the metrics.
        weights: weights of a reduction; None for the mean over tokens.
        is_clipped: (n,) bool, True where a clip is active; None for a loss without a clip.
    """
    log_ratios = inputs.log_ratios.detach()
    metrics: dict[str, Ratio] = {
        "ratio": masked_ratio(ratios, inputs.mask),
        "approx_kl": masked_ratio(0.5 * log_ratios.square(), inputs.mask),
        "log_ratio_max": maximum_ratio(log_ratios.abs(), inputs.mask),
    }
    if is_clipped is not None:
        metrics["clip_fraction"] = masked_ratio(is_clipped.to(ratios.dtype), inputs.mask)
    weights = weights or TokenWeights.equal(inputs.mask)
    return Sums(loss=weights.total(losses), count=weights.count, metrics=metrics)

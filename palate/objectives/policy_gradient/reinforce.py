"""REINFORCE: the policy gradient without a clip, and with a clipped weight that leaves no token out (CISPO)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from palate.core import ConfigError
from palate.objectives.policy_gradient.policy_tokens import PolicyTokens, exp_held, sums_of
from palate.objectives.reduce import Sums, masked
from palate.objectives.reductions import TokenWeights


@dataclass(frozen=True, kw_only=True)
class Reinforce:
    """Policy gradient without clipping, per token: `-A rho`, `rho = exp(logp - old)`.

    At `logp = old` its gradient is `-A grad logp`, that of REINFORCE; the ratio keeps it right to first order when the batch is
    learned from in several steps. With the advantages of `LeaveOneOut` this is RLOO (Ahmadian et al. 2024 eq. 9); `SequenceSum`
    divides by completions as the paper does, `TokenMean` by tokens: the same direction, another scale.

    Source: Williams 1992. Deviation: log-ratios are held within +-20 nats.

    Metrics: as `PPOClip` without `clip_fraction`.
    """

    kind: Literal["reinforce"] = "reinforce"

    def __call__(self, inputs: PolicyTokens, weights: TokenWeights | None = None) -> Sums:
        """Sums over tokens, weighted by a reduction (none: mean over tokens); differentiable in `logps`."""
        ratios = exp_held(inputs.log_ratios)
        return sums_of(inputs, -(inputs.held_advantages * ratios), ratios, weights)


@dataclass(frozen=True, kw_only=True)
class CISPO:
    """Policy gradient with a clipped importance weight: `-sg(min(rho, limit)) A logp`, per token; sg passes no gradient.

    The weight is clipped, not the gradient: a rare token whose ratio has grown (often the turning point of a chain of thought) keeps
    teaching, at a bounded weight. Below the limit its gradient is that of `Reinforce`.

    Source: MiniMax 2025 (MiniMax-M1) eq. 4 and 5, without a lower bound as they ran it; limit 5 as in Khatri et al. 2025.

    Attributes:
        limit: the largest importance weight.

    Metrics: as `PPOClip`; `ratio` is the ratio before clipping.
    """

    kind: Literal["cispo"] = "cispo"
    limit: float = 5.0

    def __post_init__(self) -> None:
        """Check the setting."""
        if not 1 <= self.limit < math.inf:
            raise ConfigError(f"cispo: limit must be 1 or more, got {self.limit}; 5 is usual")

    def __call__(self, inputs: PolicyTokens, weights: TokenWeights | None = None) -> Sums:
        """Sums over tokens, weighted by a reduction (none: mean over tokens); differentiable in `logps`."""
        ratios = exp_held(inputs.log_ratios.detach())
        losses = -ratios.clamp_max(self.limit) * inputs.held_advantages * masked(inputs.logps, inputs.mask)
        return sums_of(inputs, losses, ratios, weights, ratios > self.limit)

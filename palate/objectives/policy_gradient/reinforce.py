"""REINFORCE: the policy gradient without a clip, and with a clipped weight that keeps every token (CISPO)."""

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

    At `logp = old` its gradient is `-A grad logp`, that of REINFORCE. The ratio keeps it right to first order when several steps learn from
    the same batch. With the advantages of `LeaveOneOut` this is RLOO (Ahmadian et al. 2024 sec. 2.3); `SequenceSum`
    divides by completions as the paper does, and `TokenMean` by tokens, which changes only the scale.

    Source: Williams 1992. Deviation: log-ratios are clamped to +-20 nats.

    Metrics: as `PPOClip` without `clip_fraction`.
    """

    kind: Literal["reinforce"] = "reinforce"

    def __call__(self, inputs: PolicyTokens, weights: TokenWeights | None = None) -> Sums:
        """Return sums over tokens, weighted by a reduction (None: mean over tokens); differentiable in `logps`."""
        ratios = exp_held(inputs.log_ratios)
        return sums_of(inputs, -(inputs.masked_advantages * ratios), ratios, weights)


@dataclass(frozen=True, kw_only=True)
class CISPO:
    """Policy gradient with a clipped importance weight: `-sg(min(rho, limit)) A logp`, per token; sg stops the gradient.

    The clip acts on the weight, not on the gradient. A rare token whose ratio has grown (often the turning point of a chain of thought)
    keeps its gradient, at a bounded weight. Below the limit its gradient is that of `Reinforce`.

    Source: MiniMax 2025 (MiniMax-M1) eq. 4 and 5, without a lower bound, as in the authors' runs; limit 5 as in Khatri et al. 2025.

    Attributes:
        limit: the largest importance weight.

    Metrics: as `PPOClip`; `ratio` is the ratio before clipping.
    """

    kind: Literal["cispo"] = "cispo"
    limit: float = 5.0

    def __post_init__(self) -> None:
        """Check the setting."""
        if not 1 <= self.limit < math.inf:
            raise ConfigError(f"cispo: limit must be 1 or more, got {self.limit}; use 5")

    def __call__(self, inputs: PolicyTokens, weights: TokenWeights | None = None) -> Sums:
        """Return sums over tokens, weighted by a reduction (None: mean over tokens); differentiable in `logps`."""
        ratios = exp_held(inputs.log_ratios.detach())
        losses = -ratios.clamp_max(self.limit) * inputs.masked_advantages * masked(inputs.logps, inputs.mask)
        return sums_of(inputs, losses, ratios, weights, ratios > self.limit)

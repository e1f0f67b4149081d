"""Policy gradients on sampled tokens: PPO's clipped surrogate, and REINFORCE (with leave-one-out baselines: RLOO)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from palate.core import ConfigError
from palate.objectives.reduce import Ratio, Sums, check_shapes, masked, masked_ratio, maximum_ratio

LOG_RATIO_LIMIT = 20.0
"""Log-ratios are held within +-20 nats before `exp`: beyond, the ratio overflows and 0 * inf makes the gradient NaN."""


@dataclass(frozen=True)
class PolicyTokens:
    """Tokens sampled by the policy, all (n,).

    Attributes:
        logps: nats under the policy being learned, of the distribution sampled from (same temperature).
        old_logps: nats under the policy that sampled; no gradient flows here.
        advantages: how much better than expected; no gradient flows here.
        mask: bool, True where the token counts.
    """

    logps: Tensor
    old_logps: Tensor
    advantages: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        """Checks the shapes and the mask's type."""
        check_shapes("PolicyTokens", vars(self))


def _ratios(inputs: PolicyTokens) -> tuple[Tensor, Tensor]:
    """Log-ratio new to old (detached) and ratio (differentiable), (n,); 0 and 1 outside the mask."""
    log_ratio = masked(inputs.logps - inputs.old_logps.detach(), inputs.mask)
    return log_ratio.detach(), log_ratio.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()


def _drift(log_ratio: Tensor, ratio: Tensor, mask: Tensor) -> dict[str, Ratio]:
    """How far the policy has moved from the one that sampled."""
    return {
        "ratio": masked_ratio(ratio, mask),
        "approx_kl": masked_ratio(0.5 * log_ratio.square(), mask),
        "log_ratio_max": maximum_ratio(log_ratio.abs(), mask),
    }


@dataclass(frozen=True, kw_only=True)
class PPOClip:
    """PPO's clipped surrogate, per token: `max(-A rho, -A clip(rho, 1 - clip, 1 + clip))`, `rho = exp(logp - old)`.

    Source: Schulman et al. 2017 eq. 7. Deviation: log-ratios are held within +-20 nats. The unit is the token of the whole
    batch; a token whose ratio has left the range on the side its advantage pushes to has no gradient.

    Attributes:
        clip: a ratio further than this from 1 earns nothing more.

    Metrics: `ratio` (1 before the first update), `clip_fraction`, `approx_kl` (mean of half the squared log-ratio, nats a
    token), `log_ratio_max` (largest absolute log-ratio).
    """

    kind: Literal["ppo_clip"] = "ppo_clip"
    clip: float = 0.2

    def __post_init__(self) -> None:
        """Checks the setting."""
        if not 0 < self.clip < 1:
            raise ConfigError(f"ppo_clip: clip must lie between 0 and 1, got {self.clip}; 0.2 is usual")

    def __call__(self, inputs: PolicyTokens) -> Sums:
        """Sums over tokens; differentiable in `logps`."""
        log_ratio, ratio = _ratios(inputs)
        advantages = masked(inputs.advantages.detach(), inputs.mask)
        free = -advantages * ratio
        held = -advantages * ratio.clamp(1 - self.clip, 1 + self.clip)
        metrics = {
            **_drift(log_ratio, ratio, inputs.mask),
            "clip_fraction": masked_ratio((held > free).to(ratio.dtype), inputs.mask),
        }
        return Sums(loss=torch.maximum(free, held).sum(), count=inputs.mask.sum(), metrics=metrics)


@dataclass(frozen=True, kw_only=True)
class Reinforce:
    """Policy gradient without clipping, per token: `-A rho`, `rho = exp(logp - old)`.

    At `logp = old` its gradient is `-A grad logp`, that of REINFORCE; the ratio keeps it right to first order when the batch is
    learned from in several steps. With `advantages.leave_one_out` spread over the tokens of each completion this is RLOO
    (Ahmadian et al. 2024 eq. 9), divided by tokens instead of completions: the same direction, another scale.

    Metrics: as `PPOClip` without `clip_fraction`.
    """

    kind: Literal["reinforce"] = "reinforce"

    def __call__(self, inputs: PolicyTokens) -> Sums:
        """Sums over tokens; differentiable in `logps`."""
        log_ratio, ratio = _ratios(inputs)
        advantages = masked(inputs.advantages.detach(), inputs.mask)
        return Sums(loss=-(advantages * ratio).sum(), count=inputs.mask.sum(), metrics=_drift(log_ratio, ratio, inputs.mask))


PolicyObjective = PPOClip | Reinforce

"""PPO's clipped surrogate, per token; with a wider upper side it is DAPO's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from palate.core import ConfigError
from palate.objectives.policy_gradient.policy_tokens import PolicyTokens, exp_held, sums_of
from palate.objectives.reduce import Sums
from palate.objectives.reductions import TokenWeights


def check_clips(kind: str, clip: float, clip_high: float | None, usual: str) -> None:
    """Raises ConfigError unless `clip` lies between 0 and 1 and `clip_high` is above 0 and finite (or None)."""
    if not 0 < clip < 1:
        raise ConfigError(f"{kind}: clip must lie between 0 and 1, got {clip}; {usual} is usual")
    if clip_high is not None and not 0 < clip_high < math.inf:
        raise ConfigError(f"{kind}: clip_high must be above 0, got {clip_high}; leave it out to take clip on both sides")


def clipped(advantages: Tensor, ratios: Tensor, clip: float, clip_high: float | None) -> tuple[Tensor, Tensor]:
    """`max(-A rho, -A clip(rho, 1 - clip, 1 + clip_high))` and where the clip is at work, both (n,)."""
    free = -advantages * ratios
    held = -advantages * ratios.clamp(1 - clip, 1 + (clip if clip_high is None else clip_high))
    return torch.maximum(free, held), held > free


@dataclass(frozen=True, kw_only=True)
class PPOClip:
    """PPO's clipped surrogate, per token: `max(-A rho, -A clip(rho, 1 - clip, 1 + clip_high))`, `rho = exp(logp - old)`.

    A token whose ratio has left the range on the side its advantage pushes to has no gradient. With `dual_clip` a bad token
    (A < 0) costs at most `-A dual_clip`, so that a ratio that has grown large does not rule the batch.

    Source: Schulman et al. 2017 eq. 7; `clip_high` 0.28 Yu et al. 2025 (DAPO) sec. 3.1; `dual_clip` 3 Ye et al. 2020 eq. 5.
    Deviation: log-ratios are held within +-20 nats.

    Attributes:
        clip: a ratio further than this from 1 earns nothing more.
        clip_high: the same above 1; none takes `clip` on both sides.
        dual_clip: the largest ratio at which a token is pushed down, above 1; none sets no limit.

    Metrics: `ratio` (1 before the first update), `clip_fraction` (tokens held by a clip), `approx_kl` (mean of half the squared
    log-ratio, nats a token), `log_ratio_max` (largest absolute log-ratio).
    """

    kind: Literal["ppo_clip"] = "ppo_clip"
    clip: float = 0.2
    clip_high: float | None = None
    dual_clip: float | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        check_clips("ppo_clip", self.clip, self.clip_high, "0.2")
        if self.dual_clip is not None and not 1 < self.dual_clip < math.inf:
            raise ConfigError(f"ppo_clip: dual_clip must be above 1, got {self.dual_clip}; 3 is usual, leave it out to set no limit")

    def __call__(self, inputs: PolicyTokens, weights: TokenWeights | None = None) -> Sums:
        """Sums over tokens, weighted by a reduction (none: mean over tokens); differentiable in `logps`."""
        ratios, advantages = exp_held(inputs.log_ratios), inputs.held_advantages
        losses, held = clipped(advantages, ratios, self.clip, self.clip_high)
        if self.dual_clip is not None:
            most = -advantages * self.dual_clip
            over = (advantages < 0) & (losses > most)
            losses, held = torch.where(over, most, losses), held | over
        return sums_of(inputs, losses, ratios, weights, held)

"""PPO's clipped surrogate, per token. With a wider upper clip it is that of DAPO."""

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
    """Raise ConfigError unless `clip` lies between 0 and 1 and `clip_high` is above 0 and finite (or None)."""
    if not 0 < clip < 1:
        raise ConfigError(f"{kind}: clip must lie between 0 and 1, got {clip}; use {usual}")
    if clip_high is not None and not 0 < clip_high < math.inf:
        raise ConfigError(f"{kind}: clip_high must be above 0, got {clip_high}; leave it out to use clip on both sides")


def clipped(advantages: Tensor, ratios: Tensor, clip: float, clip_high: float | None) -> tuple[Tensor, Tensor]:
    """Return `max(-A rho, -A clip(rho, 1 - clip, 1 + clip_high))`, and where the clip is active, both (n,)."""
    unclipped = -advantages * ratios
    clipped_losses = -advantages * ratios.clamp(1 - clip, 1 + (clip if clip_high is None else clip_high))
    return torch.maximum(unclipped, clipped_losses), clipped_losses > unclipped


@dataclass(frozen=True, kw_only=True)
class PPOClip:
    """PPO's clipped surrogate, per token: `max(-A rho, -A clip(rho, 1 - clip, 1 + clip_high))`, `rho = exp(logp - old)`.

    A token has no gradient when its ratio has left the range on the side that its advantage pushes to. With `dual_clip` a bad token (A < 0)
    costs at most `-A dual_clip`, so a large ratio does not dominate the batch.

    Source: Schulman et al. 2017 eq. 7; `clip_high` 0.28 Yu et al. 2025 (DAPO) sec. 3.1; `dual_clip` 3 Ye et al. 2020 eq. 5.
    Deviation: log-ratios are clamped to +-20 nats.

    Attributes:
        clip: how far a ratio may move from 1 and still gain.
        clip_high: the same above 1; none uses `clip` on both sides.
        dual_clip: the largest ratio at which a token is pushed down, above 1; none sets no limit.

    Metrics: `ratio` (1 before the first update), `clip_fraction` (share of clipped tokens), `approx_kl` (mean of half the squared
    log-ratio, nats per token), `log_ratio_max` (largest absolute log-ratio).
    """

    kind: Literal["ppo_clip"] = "ppo_clip"
    clip: float = 0.2
    clip_high: float | None = None
    dual_clip: float | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        check_clips("ppo_clip", self.clip, self.clip_high, "0.2")
        if self.dual_clip is not None and not 1 < self.dual_clip < math.inf:
            raise ConfigError(f"ppo_clip: dual_clip must be above 1, got {self.dual_clip}; use 3, or leave it out to set no limit")

    def __call__(self, inputs: PolicyTokens, weights: TokenWeights | None = None) -> Sums:
        """Return sums over tokens, weighted by a reduction (None: mean over tokens); differentiable in `logps`."""
        ratios, advantages = exp_held(inputs.log_ratios), inputs.masked_advantages
        losses, is_clipped = clipped(advantages, ratios, self.clip, self.clip_high)
        if self.dual_clip is not None:
            limit = -advantages * self.dual_clip
            over = (advantages < 0) & (losses > limit)
            losses, is_clipped = torch.where(over, limit, losses), is_clipped | over
        return sums_of(inputs, losses, ratios, weights, is_clipped)

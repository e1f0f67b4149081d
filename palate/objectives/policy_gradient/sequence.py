"""Clipped surrogates with one ratio per completion: its length-normalised ratio (GSPO), or its whole ratio.

A reward belongs to a completion, so an importance weight should correct the probability of the completion as a whole. Every token carries
the loss of its completion. With `SequenceMean` the loss of the batch is the mean over completions, as in the papers. Advantages should be
the same on all tokens of a completion; where they differ, their mean counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from palate.objectives.policy_gradient.policy_tokens import PolicyTokens, exp_held, sums_of
from palate.objectives.policy_gradient.ppo import check_clips, clipped
from palate.objectives.reduce import Sums, masked
from palate.objectives.reductions import TokenWeights


def _summed(inputs: PolicyTokens) -> tuple[Tensor, Tensor]:
    """Return log-ratios (k,) summed over each completion, differentiable, and its number of tokens (k,)."""
    lengths = torch.bincount(inputs.completion)
    log_ratios = inputs.log_ratios
    sums = log_ratios.new_zeros(len(lengths)).index_add(0, inputs.completion, log_ratios)
    counted = log_ratios.new_zeros(len(lengths)).index_add(0, inputs.completion, inputs.mask.to(log_ratios.dtype))
    return sums, counted


@dataclass(frozen=True, kw_only=True)
class GSPO:
    """Group sequence policy optimisation: PPO's clip on `s = exp(mean over the completion's tokens of (logp - old))`.

    The mean keeps the ratios of short and long completions in one range. The clips are therefore tiny: a completion of 1000 tokens has
    moved by 0.3 nats when `s` differs from 1 by 3e-4.

    Source: Zheng et al. 2025 eq. 5 to 7, clips from sec. 5.1. Use it with `SequenceMean`.
    Deviation: the mean log-ratio is clamped to +-20 nats.

    Attributes:
        clip: how far a completion's ratio may fall below 1 and still gain.
        clip_high: the same above 1; none uses `clip` on both sides.

    Metrics: as `PPOClip`; `ratio` and `clip_fraction` are those of completions, weighted by their tokens.
    """

    kind: Literal["gspo"] = "gspo"
    clip: float = 3e-4
    clip_high: float | None = 4e-4

    def __post_init__(self) -> None:
        """Check the settings."""
        check_clips("gspo", self.clip, self.clip_high, "3e-4")

    def __call__(self, inputs: PolicyTokens, weights: TokenWeights | None = None) -> Sums:
        """Return sums over tokens, weighted by a reduction (None: mean over tokens); differentiable in `logps`."""
        sums, counted = _summed(inputs)
        ratios = masked(exp_held(sums / counted.clamp_min(1))[inputs.completion], inputs.mask)
        losses, is_clipped = clipped(inputs.masked_advantages, ratios, self.clip, self.clip_high)
        return sums_of(inputs, losses, ratios, weights, is_clipped)


@dataclass(frozen=True, kw_only=True)
class SequenceClip:
    """PPO's clip on a completion's whole ratio, `exp(sum over its tokens of (logp - old))`: RLOO with several updates per batch.

    A completion is one action, as in RLOO (Ahmadian et al. 2024 sec. 3), and this is its importance weight. The weight is unbiased and has
    a high variance: long completions leave the range after small steps. Before the first update, and with `SequenceMean`, its gradient
    is that of `Reinforce` with `SequenceSum`.

    Source: Schulman et al. 2017 eq. 7 with the completion as the action. Deviation: log-ratios are clamped to +-20 nats.

    Attributes:
        clip: how far a completion's ratio may move from 1 and still gain.
        clip_high: the same above 1; none uses `clip` on both sides.

    Metrics: as `GSPO`.
    """

    kind: Literal["sequence_clip"] = "sequence_clip"
    clip: float = 0.2
    clip_high: float | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        check_clips("sequence_clip", self.clip, self.clip_high, "0.2")

    def __call__(self, inputs: PolicyTokens, weights: TokenWeights | None = None) -> Sums:
        """Return sums over tokens, weighted by a reduction (None: mean over tokens); differentiable in `logps`."""
        ratios = masked(exp_held(_summed(inputs)[0])[inputs.completion], inputs.mask)
        losses, is_clipped = clipped(inputs.masked_advantages, ratios, self.clip, self.clip_high)
        return sums_of(inputs, losses, ratios, weights, is_clipped)

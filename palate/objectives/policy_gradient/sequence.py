"""Clipped surrogates with one ratio a completion: its length-normalised ratio (GSPO), and its whole ratio.

A reward is given to a completion, so its probability as a whole is what an importance weight should correct. Every token carries the
loss of its completion; with `SequenceMean` the batch's loss is the mean over completions that the papers write. Advantages are
meant to be the same on all tokens of a completion; where they differ, their mean counts.
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
    """Log-ratios (k,) summed over each completion, differentiable, and its number of tokens (k,)."""
    lengths = torch.bincount(inputs.completion)
    log_ratios = inputs.log_ratios
    sums = log_ratios.new_zeros(len(lengths)).index_add(0, inputs.completion, log_ratios)
    counted = log_ratios.new_zeros(len(lengths)).index_add(0, inputs.completion, inputs.mask.to(log_ratios.dtype))
    return sums, counted


@dataclass(frozen=True, kw_only=True)
class GSPO:
    """Group sequence policy optimisation: PPO's clip on `s = exp(mean over the completion's tokens of (logp - old))`.

    The mean keeps ratios of short and long completions in one range, which is why the clips are tiny: a completion of 1000 tokens has
    moved by 0.3 nats when `s` leaves 3e-4.

    Source: Zheng et al. 2025 eq. 5 to 7, clips from sec. 5.1. Its tokens and completions are reduced by `SequenceMean`.
    Deviation: the mean log-ratio is held within +-20 nats.

    Attributes:
        clip: how far below 1 a completion's ratio still earns.
        clip_high: the same above 1; none takes `clip` on both sides.

    Metrics: as `PPOClip`; `ratio` and `clip_fraction` are of completions, weighted by their tokens.
    """

    kind: Literal["gspo"] = "gspo"
    clip: float = 3e-4
    clip_high: float | None = 4e-4

    def __post_init__(self) -> None:
        """Check the settings."""
        check_clips("gspo", self.clip, self.clip_high, "3e-4")

    def __call__(self, inputs: PolicyTokens, weights: TokenWeights | None = None) -> Sums:
        """Sums over tokens, weighted by a reduction (none: mean over tokens); differentiable in `logps`."""
        sums, counted = _summed(inputs)
        ratios = masked(exp_held(sums / counted.clamp_min(1))[inputs.completion], inputs.mask)
        losses, held = clipped(inputs.held_advantages, ratios, self.clip, self.clip_high)
        return sums_of(inputs, losses, ratios, weights, held)


@dataclass(frozen=True, kw_only=True)
class SequenceClip:
    """PPO's clip on a completion's whole ratio, `exp(sum over its tokens of (logp - old))`: RLOO with several updates a batch.

    A completion is one action, as RLOO has it (Ahmadian et al. 2024 sec. 3), and this is its importance weight, without bias and with
    much variance: long completions leave the range after small steps. Before the first update, and with `SequenceMean`, its gradient
    is that of `Reinforce` with `SequenceSum`.

    Source: Schulman et al. 2017 eq. 7 with the completion as the action. Deviation: log-ratios are held within +-20 nats.

    Attributes:
        clip: a completion's ratio further than this from 1 earns nothing more.
        clip_high: the same above 1; none takes `clip` on both sides.

    Metrics: as `GSPO`.
    """

    kind: Literal["sequence_clip"] = "sequence_clip"
    clip: float = 0.2
    clip_high: float | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        check_clips("sequence_clip", self.clip, self.clip_high, "0.2")

    def __call__(self, inputs: PolicyTokens, weights: TokenWeights | None = None) -> Sums:
        """Sums over tokens, weighted by a reduction (none: mean over tokens); differentiable in `logps`."""
        ratios = masked(exp_held(_summed(inputs)[0])[inputs.completion], inputs.mask)
        losses, held = clipped(inputs.held_advantages, ratios, self.clip, self.clip_high)
        return sums_of(inputs, losses, ratios, weights, held)

"""From scores to rewards: what a missing end costs, soft limits of length, clipping, whitening. Pure, on whole completions (b,)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from palate.core import ConfigError
from palate.objectives.advantages.formulas import whiten
from palate.objectives.reduce import check_shapes


@dataclass(frozen=True, kw_only=True)
class ReplaceReward:
    """A completion that was cut off gets a fixed reward in place of its score.

    Source: Ziegler et al. 2019 sec. 3.1.2; -1 from lm-human-preferences.

    Attributes:
        reward: what it gets.
    """

    kind: Literal["replace"] = "replace"
    reward: float = -1.0

    def __call__(self, rewards: Tensor, ended: Tensor) -> Tensor:
        """(b,) rewards; a completion that was cut off needs no score."""
        return torch.where(ended, rewards, self.reward)


@dataclass(frozen=True, kw_only=True)
class SubtractReward:
    """A completion that was cut off keeps its score less a cost: long attempts still differ.

    Attributes:
        cost: what is taken off, in reward units.
    """

    kind: Literal["subtract"] = "subtract"
    cost: float = 1.0

    def __post_init__(self) -> None:
        """Checks the setting."""
        if not 0 <= self.cost < math.inf:
            raise ConfigError(f"subtract: cost must be >= 0 and finite, got {self.cost}; it is taken off the reward")

    def __call__(self, rewards: Tensor, ended: Tensor) -> Tensor:
        """(b,) rewards."""
        return torch.where(ended, rewards, rewards - self.cost)


@dataclass(frozen=True, kw_only=True)
class MaskCompletion:
    """A completion that was cut off teaches nothing: NaN, so it is in no baseline, no loss and no count.

    Source: overlong filtering of Yu et al. 2025 (DAPO) sec. 3.4. Deviation: it leaves the baselines too, since the score of half an
    answer says little.
    """

    kind: Literal["mask"] = "mask"

    def __call__(self, rewards: Tensor, ended: Tensor) -> Tensor:
        """(b,) rewards, NaN where the end is missing."""
        return torch.where(ended, rewards, math.nan)


@dataclass(frozen=True, kw_only=True)
class KeepReward:
    """A completion that was cut off keeps its score."""

    kind: Literal["keep"] = "keep"

    def __call__(self, rewards: Tensor, ended: Tensor) -> Tensor:  # noqa: ARG002 (one signature for all)
        """`rewards`."""
        return rewards


MissingEOS = ReplaceReward | SubtractReward | MaskCompletion | KeepReward


@dataclass(frozen=True, kw_only=True)
class SoftOverlong:
    """A penalty that grows with length over the last tokens before the limit, so that the limit is felt before it cuts.

    0 up to `max_tokens - buffer`, then linear to `-penalty` at `max_tokens`. Source: Yu et al. 2025 (DAPO) eq. 13.

    Attributes:
        max_tokens: the limit: the longest completion sampled.
        buffer: tokens before it over which the penalty grows.
        penalty: its size at the limit, reward units.
    """

    kind: Literal["soft_overlong"] = "soft_overlong"
    max_tokens: int = 64
    buffer: int = 16
    penalty: float = 1.0

    def __post_init__(self) -> None:
        """Checks the settings."""
        if not 0 < self.buffer <= self.max_tokens:
            raise ConfigError(f"soft_overlong: buffer {self.buffer} must be above 0 and within max_tokens {self.max_tokens}")
        if not 0 <= self.penalty < math.inf:
            raise ConfigError(f"soft_overlong: penalty must be >= 0 and finite, got {self.penalty}; it is taken off the reward")

    def __call__(self, lengths: Tensor) -> Tensor:
        """What is added to the reward (b,), 0 or below, of completions of `lengths` (b,) tokens."""
        over = (lengths - (self.max_tokens - self.buffer)) / self.buffer
        return -self.penalty * over.clamp(0, 1)


@dataclass(frozen=True, kw_only=True)
class Shaping:
    """From scores (b,) to the rewards that are learned from, in this order: missing end, length, clip, whitening.

    Attributes:
        missing_eos: what becomes of a completion that was cut off: replace, subtract, mask, or keep.
        overlong: a soft limit of length; none sets no limit.
        clip: rewards are held within +- this; none holds nothing.
        whiten: rewards of the batch get standard deviation 1 and keep their mean. Of completions, before the price of KL;
            lm-human-preferences does it to token rewards, after.
    """

    missing_eos: MissingEOS = field(default_factory=ReplaceReward)
    overlong: SoftOverlong | None = None
    clip: float | None = None
    whiten: bool = False

    def __post_init__(self) -> None:
        """Checks the settings."""
        if self.clip is not None and not 0 < self.clip < math.inf:
            raise ConfigError(f"shaping: clip must be > 0 and finite, got {self.clip}; leave it out to hold nothing")

    def __call__(self, scores: Tensor, ended: Tensor, lengths: Tensor) -> Tensor:
        """Rewards (b,), without gradient; NaN where a completion could not be scored or is masked.

        Args:
            scores: (b,) of whole completions, NaN where there is none.
            ended: (b,) bool, True where the completion ended by itself.
            lengths: (b,) tokens of each completion.
        """
        check_shapes("Shaping", {"scores": scores, "ended": ended, "lengths": lengths})
        rewards = self.missing_eos(scores.detach(), ended)
        if self.overlong is not None:
            rewards = rewards + self.overlong(lengths)
        if self.clip is not None:
            rewards = rewards.clamp(-self.clip, self.clip)
        if self.whiten:
            scored = ~rewards.isnan()
            rewards = torch.where(scored, whiten(rewards, scored, shift_mean=False), math.nan)
        return rewards

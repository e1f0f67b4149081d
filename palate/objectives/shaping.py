"""From scores to rewards: the cost of a missing eos, soft limits of length, clipping, whitening. Pure functions of completions (b,)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from palate.core import ConfigError, TrainingError
from palate.objectives.advantages.formulas import whiten
from palate.objectives.reduce import check_shapes


@dataclass(frozen=True, kw_only=True)
class ReplaceReward:
    """A truncated completion gets a fixed reward in place of its score, or the lowest score of the batch's whole completions if lower.

    Source: Ziegler et al. 2019 sec. 3.1.2; -1 from lm-human-preferences. Deviation: the lowest score of the batch. With scores below the
    fixed reward, not to end would be the best that a policy can do.

    Attributes:
        reward: the fixed reward.
    """

    kind: Literal["replace"] = "replace"
    reward: float = -1.0

    def __call__(self, rewards: Tensor, has_eos: Tensor) -> Tensor:
        """Return rewards (b,); a truncated completion does not need a score."""
        whole = rewards[has_eos & ~rewards.isnan()]
        return torch.where(has_eos, rewards, min(self.reward, float(whole.min())) if len(whole) else self.reward)


@dataclass(frozen=True, kw_only=True)
class SubtractReward:
    """A truncated completion keeps its score minus a cost, so truncated completions still differ.

    Attributes:
        cost: amount subtracted, in reward units.
    """

    kind: Literal["subtract"] = "subtract"
    cost: float = 1.0

    def __post_init__(self) -> None:
        """Check the setting."""
        if not 0 <= self.cost < math.inf:
            raise ConfigError(f"subtract: cost must be >= 0 and finite, got {self.cost}; the reward is reduced by it")

    def __call__(self, rewards: Tensor, has_eos: Tensor) -> Tensor:
        """Return rewards (b,)."""
        return torch.where(has_eos, rewards, rewards - self.cost)


@dataclass(frozen=True, kw_only=True)
class MaskCompletion:
    """A truncated completion gets the reward NaN, so that no baseline, loss or count contains it.

    Source: overlong filtering of Yu et al. 2025 (DAPO) sec. 3.4. Deviation: baselines leave it out too, because the score of half a
    completion says little.
    """

    kind: Literal["mask"] = "mask"

    def __call__(self, rewards: Tensor, has_eos: Tensor) -> Tensor:
        """Return rewards (b,), NaN where the eos is missing."""
        return torch.where(has_eos, rewards, math.nan)


@dataclass(frozen=True, kw_only=True)
class KeepReward:
    """A truncated completion keeps its score."""

    kind: Literal["keep"] = "keep"

    def __call__(self, rewards: Tensor, has_eos: Tensor) -> Tensor:  # noqa: ARG002 (one signature for all)
        """Return `rewards`."""
        return rewards


MissingEOS = ReplaceReward | SubtractReward | MaskCompletion | KeepReward
"""What happens to the score of a completion without an eos."""


@dataclass(frozen=True, kw_only=True)
class SoftOverlong:
    """A penalty that grows with length over the last tokens before the limit, so that the policy learns to stay below it.

    0 up to `max_tokens - buffer`, then linear to `-penalty` at `max_tokens`. Source: Yu et al. 2025 (DAPO) eq. 13.

    Attributes:
        max_tokens: the limit; none takes the length of the longest completion that is sampled.
        buffer: number of tokens before the limit over which the penalty grows; none takes a quarter of the limit.
        penalty: size of the penalty at the limit, in reward units.
    """

    kind: Literal["soft_overlong"] = "soft_overlong"
    max_tokens: int | None = None
    buffer: int | None = None
    penalty: float = 1.0

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ConfigError(
                f"soft_overlong: max_tokens must be 1 or more, got {self.max_tokens}; leave it out to take sampling.max_tokens"
            )
        if self.buffer is not None and not 0 < self.buffer <= (self.max_tokens or self.buffer):
            raise ConfigError(f"soft_overlong: buffer {self.buffer} must be above 0 and within max_tokens {self.max_tokens}")
        if not 0 <= self.penalty < math.inf:
            raise ConfigError(f"soft_overlong: penalty must be >= 0 and finite, got {self.penalty}; the reward is reduced by it")

    def within(self, longest: int) -> SoftOverlong:
        """Return the limit with its lengths filled in, where the longest completion that is sampled has `longest` tokens.

        Raises:
            ConfigError: the buffer exceeds the limit, or no completion can be long enough to be charged.
        """
        limit = longest if self.max_tokens is None else self.max_tokens
        filled = replace(self, max_tokens=limit, buffer=max(1, limit // 4) if self.buffer is None else self.buffer)
        if limit - (filled.buffer or 0) >= longest:
            raise ConfigError(
                f"soft_overlong charges completions of more than {limit - (filled.buffer or 0)} tokens, and sampling.max_tokens is "
                f"{longest}: leave out shaping.overlong.max_tokens, which then is sampling.max_tokens"
            )
        return filled

    def __call__(self, lengths: Tensor) -> Tensor:
        """Return what to add to the reward (b,), 0 or below, for completions of `lengths` (b,) tokens. The lengths must be filled in."""
        if self.max_tokens is None or self.buffer is None:
            raise ConfigError("soft_overlong: max_tokens and buffer are not known; give them, or call within first")
        over = (lengths - (self.max_tokens - self.buffer)) / self.buffer
        return -self.penalty * over.clamp(0, 1)


@dataclass(frozen=True, kw_only=True)
class Shaping:
    """Turn scores (b,) into the rewards to learn from, in this order: missing eos, length, clip, whitening.

    Attributes:
        missing_eos: what happens to the score of a truncated completion: replace, subtract, mask, or keep.
        overlong: a soft limit of length; none sets no limit.
        clip: rewards are clipped to within plus or minus this; none does not clip.
        whiten: scale the rewards of the batch to standard deviation 1 and keep their mean. It acts on completions before the KL penalty;
            lm-human-preferences does it on token rewards, after.
    """

    missing_eos: MissingEOS = field(default_factory=ReplaceReward)
    overlong: SoftOverlong | None = None
    clip: float | None = None
    whiten: bool = False

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.clip is not None and not 0 < self.clip < math.inf:
            raise ConfigError(f"shaping: clip must be > 0 and finite, got {self.clip}; leave it out to keep rewards as they are")

    def within(self, longest: int) -> Shaping:
        """Return the shaping for completions of at most `longest` tokens. Raises ConfigError where the lengths contradict each other."""
        return self if self.overlong is None else replace(self, overlong=self.overlong.within(longest))

    def metrics(self, scores: Tensor, has_eos: Tensor) -> dict[str, float]:
        """Return by how much a fixed reward for truncated completions is above the mean score of the others, where there are both."""
        whole = scores[has_eos & ~scores.isnan()]
        if not isinstance(self.missing_eos, ReplaceReward) or not len(whole) or bool(has_eos.all()):
            return {}
        return {"missing_eos_excess/mean": self.missing_eos.reward - float(whole.mean())}

    def __call__(self, scores: Tensor, has_eos: Tensor, lengths: Tensor) -> Tensor:
        """Return rewards (b,), without gradient; NaN where a completion has no score or is masked.

        Args:
            scores: (b,) of whole completions, NaN where there is none.
            has_eos: (b,) bool, True where the completion ended with an eos.
            lengths: (b,) tokens of each completion.
        """
        check_shapes("Shaping", {"scores": scores, "has_eos": has_eos, "lengths": lengths})
        rewards = self.missing_eos(scores.detach(), has_eos)
        if self.overlong is not None:
            rewards = rewards + self.overlong(lengths)
        if self.clip is not None:
            rewards = rewards.clamp(-self.clip, self.clip)
        if self.whiten:
            scored = ~rewards.isnan()
            rewards = torch.where(scored, whiten(rewards, scored, shift_mean=False), math.nan)
        if bool(rewards.isinf().any()):
            raise TrainingError("shaping: a reward is infinite in float32. Lower the numbers of shaping, or bound the scores")
        return rewards

"""Rules with one advantage for all tokens of a completion: its reward compared with the rewards of others. No value model.

The reward of a completion is its reward minus the penalties of its tokens. A completion without a score is in no baseline and gets
advantage 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from palate.objectives.advantages.episodes import Episodes, TokenCredit
from palate.objectives.advantages.formulas import from_group_mean, leave_one_out
from palate.objectives.reduce import masked

SCALE_EPS = 1e-4
"""Added to the standard deviation that advantages are divided by, in reward units."""


def _spread(episodes: Episodes, advantages: Tensor) -> TokenCredit:
    """Return the advantage (b,) of each completion on all of its tokens."""
    return TokenCredit(advantages[episodes.completion], None, episodes.mask)


@dataclass(frozen=True, kw_only=True)
class LeaveOneOut:
    """The reward minus the mean reward of the prompt's *other* completions (RLOO): an unbiased baseline.

    Source: Ahmadian et al. 2024 eq. 9; Kool et al. 2019.
    """

    needs_values: ClassVar[bool] = False
    needs_siblings: ClassVar[bool] = True

    kind: Literal["leave_one_out"] = "leave_one_out"

    def __call__(self, episodes: Episodes) -> TokenCredit:
        """Return advantages, the same on all tokens of a completion; no returns."""
        return _spread(episodes, leave_one_out(episodes.penalised_rewards, episodes.group))


@dataclass(frozen=True, kw_only=True)
class GroupRelative:
    """The reward minus the mean reward of the group, divided by a standard deviation plus 1e-4 (GRPO).

    Scale `group` divides by the standard deviation of the group, as GRPO does. Prompts with nearly equal rewards then count as much as the
    others, so the optimum differs from that of the rewards. Scale `batch` divides by the standard deviation of all completions. Scale
    `none` does not divide (Dr. GRPO). Both standard deviations use the unbiased variance (divided by n - 1). The paper does not say which.

    Source: Shao et al. 2024 (DeepSeekMath) sec. 4.1; `none` Liu et al. 2025 (Dr. GRPO).

    Attributes:
        scale: whose standard deviation divides the difference: group, batch, or none.
    """

    needs_values: ClassVar[bool] = False
    needs_siblings: ClassVar[bool] = True

    kind: Literal["group_relative"] = "group_relative"
    scale: Literal["group", "batch", "none"] = "group"

    def __call__(self, episodes: Episodes) -> TokenCredit:
        """Return advantages, the same on all tokens of a completion; no returns."""
        rewards = episodes.penalised_rewards
        centred, deviation = from_group_mean(rewards, episodes.group)
        if self.scale == "batch":
            _, deviation = from_group_mean(rewards, torch.zeros_like(episodes.group))
        return _spread(episodes, centred if self.scale == "none" else centred / (deviation + SCALE_EPS))


@dataclass(frozen=True, kw_only=True)
class BatchMean:
    """The reward minus the mean reward of the batch: plain REINFORCE.

    The mean contains the completion's own reward, which shrinks advantages by (b - 1) / b.

    Source: Williams 1992.

    Attributes:
        baseline: mean of the batch, or none.
    """

    needs_values: ClassVar[bool] = False
    needs_siblings: ClassVar[bool] = False

    kind: Literal["batch_mean"] = "batch_mean"
    baseline: Literal["mean", "none"] = "mean"

    def __call__(self, episodes: Episodes) -> TokenCredit:
        """Return advantages, the same on all tokens of a completion; no returns."""
        rewards = episodes.penalised_rewards
        if self.baseline == "none":
            return _spread(episodes, masked(rewards, ~rewards.isnan()))
        return _spread(episodes, from_group_mean(rewards, torch.zeros_like(episodes.group))[0])

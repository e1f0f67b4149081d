"""Rules with one advantage for all tokens of a completion: its reward against others'. No value model.

The reward of a completion is what was paid: less the penalties of its tokens. Completions that could not be scored are in no
baseline and get 0.
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
    """A completion's advantage (b,) on each of its tokens."""
    return TokenCredit(advantages[episodes.completion], None, episodes.mask)


@dataclass(frozen=True, kw_only=True)
class LeaveOneOut:
    """Its reward minus the mean reward of the prompt's *other* completions (RLOO): a baseline without bias.

    Source: Ahmadian et al. 2024 eq. 9; Kool et al. 2019.
    """

    needs_values: ClassVar[bool] = False
    needs_siblings: ClassVar[bool] = True

    kind: Literal["leave_one_out"] = "leave_one_out"

    def __call__(self, episodes: Episodes) -> TokenCredit:
        """Advantages, the same on all tokens of a completion; no returns."""
        return _spread(episodes, leave_one_out(episodes.paid, episodes.group))


@dataclass(frozen=True, kw_only=True)
class GroupRelative:
    """Its reward minus the mean reward of its group, divided by a standard deviation plus 1e-4 (GRPO).

    Scale `group` divides by that of the group, as GRPO does: prompts whose completions are nearly alike count as much as the rest, and
    the optimum is no longer that of the rewards. Scale `batch` divides by that of all completions, `none` by nothing (Dr. GRPO).
    Both standard deviations are of the unbiased variance (divided by n - 1); the paper does not say which.

    Source: Shao et al. 2024 (DeepSeekMath) sec. 4.1; `none` Liu et al. 2025 (Dr. GRPO).

    Attributes:
        scale: what the difference is divided by: group, batch, or none.
    """

    needs_values: ClassVar[bool] = False
    needs_siblings: ClassVar[bool] = True

    kind: Literal["group_relative"] = "group_relative"
    scale: Literal["group", "batch", "none"] = "group"

    def __call__(self, episodes: Episodes) -> TokenCredit:
        """Advantages, the same on all tokens of a completion; no returns."""
        paid = episodes.paid
        centred, deviation = from_group_mean(paid, episodes.group)
        if self.scale == "batch":
            _, deviation = from_group_mean(paid, torch.zeros_like(episodes.group))
        return _spread(episodes, centred if self.scale == "none" else centred / (deviation + SCALE_EPS))


@dataclass(frozen=True, kw_only=True)
class BatchMean:
    """Its reward minus the mean reward of the batch: plain REINFORCE.

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
        """Advantages, the same on all tokens of a completion; no returns."""
        paid = episodes.paid
        if self.baseline == "none":
            return _spread(episodes, masked(paid, ~paid.isnan()))
        return _spread(episodes, from_group_mean(paid, torch.zeros_like(episodes.group))[0])

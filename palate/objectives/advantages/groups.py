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

SHAPED = 1e-5
"""What shaping adds counts as nothing below this share of the parts: in float32 a sum differs from itself by that much."""


def _spread(episodes: Episodes, advantages: Tensor) -> TokenCredit:
    """Return the advantage (b,) of each completion on all of its tokens."""
    return TokenCredit(advantages[episodes.completion], None, episodes.mask)


@dataclass(frozen=True, kw_only=True)
class LeaveOneOut:
    """The reward minus the mean reward of the prompt's *other* completions (RLOO): an unbiased baseline.

    Source: Ahmadian et al. 2024 sec. 2.3; Kool et al. 2019.
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
class GroupDecoupled:
    """Each part of the reward normalised in its group, then their weighted sum normalised over the batch (GDPO).

    With parts k, weights w_k and groups as in `GroupRelative`,

        A_k = (r_k - mean r_k) / (std r_k + 1e-4),   A = sum_k w_k A_k,   advantage = (A - mean A) / (std A + 1e-4),

    with the last mean and deviation over all completions of the batch. So a part that varies little counts as much as its weight says, and
    completions that differ in two parts do not get the advantage of others whose sum is the same. What shaping adds to the sum of the
    parts, such as the cost of a missing eos, is one more part of weight 1. A part without a score for a completion adds 0 for it.

    Source: Liu et al. 2026 (GDPO). Unbiased variances, as in `GroupRelative`; the part of shaping is ours.
    """

    needs_values: ClassVar[bool] = False
    needs_siblings: ClassVar[bool] = True

    kind: Literal["group_decoupled"] = "group_decoupled"

    def __call__(self, episodes: Episodes) -> TokenCredit:
        """Return advantages, the same on all tokens of a completion; no returns.

        Raises:
            ValueError: the episodes do not say what the parts of the reward are.
        """
        if episodes.parts is None:
            raise ValueError("group_decoupled needs the parts of the reward; pass Episodes the parts, or use group_relative")
        scored = ~episodes.rewards.isnan()
        parts, weights = torch.where(scored[:, None], episodes.parts.added, torch.nan), episodes.parts.weights
        shaping = episodes.penalised_rewards - parts.nansum(1)
        shaping = torch.where(shaping.abs() > SHAPED * (1 + parts.abs().nansum(1)), shaping, torch.where(scored, 0.0, torch.nan))
        columns = [*zip(parts.unbind(1), weights.unbind(1), strict=True), (shaping, torch.ones_like(shaping))]
        total = sum((weight * self._normalised(column, episodes.group) for column, weight in columns), torch.zeros_like(shaping))
        return _spread(episodes, self._normalised(torch.where(scored, total, torch.nan), torch.zeros_like(episodes.group)))

    def _normalised(self, rewards: Tensor, group: Tensor) -> Tensor:
        centred, deviation = from_group_mean(rewards, group)
        return centred / (deviation + SCALE_EPS)


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

"""The formulas behind the rules of advantage: pure functions whose results have no gradient.

Their inputs are `b` completions of up to `t` tokens, padded where order matters. Masks are True where a token was sampled. Results are 0
outside the mask; they do not depend on the width, the side or the content of the padding. Groups are numbers (b,).
"""

from __future__ import annotations

import torch
from torch import Tensor

from palate.objectives.reduce import check_shapes, masked


def token_rewards(rewards: Tensor, penalties: Tensor, mask: Tensor) -> Tensor:
    """Return the reward of every token (b, t): minus its penalty, plus the completion's reward at the last token.

    The sum of a row is its reward minus its penalties. The last token of the mask gets the reward, wherever the padding is. A row with an
    empty mask gives zeros whatever its reward; clear the mask of completions without a score.

    Args:
        rewards: (b,) of whole completions.
        penalties: (b, t) KL penalties, in reward units.
        mask: (b, t) bool.

    Source: Ziegler et al. 2019 eq. 2.
    """
    check_shapes("token_rewards", {"penalties": penalties, "mask": mask})
    later = mask.flip(1).cumsum(1).flip(1)
    last = mask & (later == 1)
    return masked(-penalties.detach(), mask) + masked(rewards.detach()[:, None].expand(mask.shape).to(penalties.dtype), last)


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float = 1.0, lam: float = 0.95) -> tuple[Tensor, Tensor]:
    """Return generalised advantage estimates and returns, both (b, t), not whitened.

    `delta_t = r_t + gamma V_{t+1} - V_t`, `A_t = delta_t + gamma lam A_{t+1}`, where V after the last token is 0, and
    `returns = A + V`. It skips tokens outside the mask (padding on either side, text of a tool in between). With gamma = lam = 1 the
    returns are the plain rewards-to-go.

    Args:
        rewards: (b, t).
        values: (b, t), of the state in which each token was chosen.
        mask: (b, t) bool.
        gamma: discount per token.
        lam: 0 trusts the values, 1 the rewards.

    Source: Schulman et al. 2016 eq. 16; gamma 1 and lam 0.95 from lm-human-preferences.
    """
    check_shapes("gae", {"rewards": rewards, "values": values, "mask": mask})
    rewards, values = masked(rewards.detach(), mask), masked(values.detach(), mask)
    advantages = torch.zeros_like(values)
    advantage = next_value = values.new_zeros(len(values))
    for t in range(values.shape[1] - 1, -1, -1):
        current = rewards[:, t] + gamma * next_value - values[:, t] + gamma * lam * advantage
        advantages[:, t] = masked(current, mask[:, t])
        advantage = torch.where(mask[:, t], current, advantage)
        next_value = torch.where(mask[:, t], values[:, t], next_value)
    return advantages, advantages + values


def _group_sums(values: Tensor, group: Tensor) -> Tensor:
    """Return the sum over the group of each entry (b,)."""
    return values.new_zeros(int(group.max()) + 1 if len(group) else 0).index_add(0, group, values)[group]


def _above_minimum(rewards: Tensor, group: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return rewards minus the minimum of their group, the sums of these over the group, and the number of scores there.

    All are (b,), and 0 for NaN. Subtracting the minimum keeps differences, and equal rewards stay equal in floating point.
    """
    check_shapes("rewards by group", {"rewards": rewards, "group": group})
    rewards, scored = rewards.detach(), ~rewards.isnan()
    infinite = rewards.new_full((int(group.max()) + 1 if len(group) else 0,), torch.inf)
    minimum = infinite.scatter_reduce(0, group, torch.where(scored, rewards, torch.inf), "amin")[group]
    above = masked(rewards - minimum, scored)
    return above, _group_sums(above, group), _group_sums(scored.to(rewards.dtype), group)


def leave_one_out(rewards: Tensor, group: Tensor) -> Tensor:
    """Return the advantage of each completion (b,): its reward minus the mean reward of the *other* completions of its group.

    NaN marks a completion without a score. No baseline contains it, and its advantage is 0. A completion without scored siblings has
    advantage 0 too. Equal rewards give exactly 0.

    Args:
        rewards: (b,), NaN where there is no score.
        group: (b,) long, number of the prompt.

    Source: Ahmadian et al. 2024 sec. 2.3; Kool et al. 2019.
    """
    above, sums, counts = _above_minimum(rewards, group)
    return masked((counts * above - sums) / (counts - 1).clamp_min(1), ~rewards.isnan())


def from_group_mean(rewards: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """Return rewards minus the mean of their group, and the group's standard deviation (divided by n - 1), both (b,).

    As in `leave_one_out`, no statistic contains NaN, which gets 0. A single completion and equal rewards get exactly 0 and 0.
    """
    above, sums, counts = _above_minimum(rewards, group)
    centred = masked(above - sums / counts.clamp_min(1), ~rewards.isnan())
    return centred, (_group_sums(centred.square(), group) / (counts - 1).clamp_min(1)).sqrt()


def whiten(x: Tensor, mask: Tensor, *, shift_mean: bool = True) -> Tensor:
    """Return `x` scaled to standard deviation 1 over the mask, 0 outside; its mean is 0, or kept with `shift_mean=False`.

    `(x - mean) / sqrt(var + 1e-8)` with the biased variance (divided by n) of lm-human-preferences and of Huang et al. 2024;
    TRL divides by n - 1. Shift the mean of advantages, and keep that of rewards. Whiten the whole batch, not its micro-batches.
    """
    check_shapes("whiten", {"x": x, "mask": mask})
    x = masked(x.detach(), mask)
    n = mask.sum().clamp_min(1)
    mean = x.sum() / n
    variance = masked((x - mean).square(), mask).sum() / n
    white = (x - mean) * torch.rsqrt(variance + 1e-8)
    return masked(white if shift_mean else white + mean, mask)

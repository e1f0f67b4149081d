"""What the rules of advantage are made of: pure functions, nothing differentiable comes out.

`b` completions of up to `t` tokens, padded where tokens follow one another; masks are True where a token was sampled. Results are 0
outside the mask and do not depend on the width or the side of the padding, nor on what stands in it. Groups are numbers (b,).
"""

from __future__ import annotations

import torch
from torch import Tensor

from palate.objectives.reduce import check_shapes, masked


def token_rewards(rewards: Tensor, penalties: Tensor, mask: Tensor) -> Tensor:
    """Reward of every token (b, t): minus its penalty, and the completion's reward on top at the last token.

    The sum of a row is its reward minus its penalties. The reward stands on the last token of the mask, wherever the padding is. A row
    with an empty mask gives zeros whatever its reward; clear the mask of completions that could not be scored.

    Args:
        rewards: (b,) of whole completions.
        penalties: (b, t) in reward units: the price of KL.
        mask: (b, t) bool.

    Source: Ziegler et al. 2019 eq. 2.
    """
    check_shapes("token_rewards", {"penalties": penalties, "mask": mask})
    later = mask.flip(1).cumsum(1).flip(1)
    last = mask & (later == 1)
    return masked(-penalties.detach(), mask) + masked(rewards.detach()[:, None].expand(mask.shape).to(penalties.dtype), last)


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float = 1.0, lam: float = 0.95) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates and returns, both (b, t), not whitened.

    `delta_t = r_t + gamma V_{t+1} - V_t`, `A_t = delta_t + gamma lam A_{t+1}`, V after the last token 0; `returns = A + V`.
    Tokens outside the mask are stepped over as if they were not there (padding on either side, text of a tool in between).
    With gamma = lam = 1 the returns are the plain rewards-to-go.

    Args:
        rewards: (b, t).
        values: (b, t), of the state in which each token was chosen.
        mask: (b, t) bool.
        gamma: discount a token.
        lam: 0 trusts the values, 1 the rewards.

    Source: Schulman et al. 2016 eq. 16; gamma 1 and lam 0.95 from lm-human-preferences.
    """
    check_shapes("gae", {"rewards": rewards, "values": values, "mask": mask})
    rewards, values = masked(rewards.detach(), mask), masked(values.detach(), mask)
    advantages = torch.zeros_like(values)
    advantage = next_value = values.new_zeros(len(values))
    for t in range(values.shape[1] - 1, -1, -1):
        here = rewards[:, t] + gamma * next_value - values[:, t] + gamma * lam * advantage
        advantages[:, t] = masked(here, mask[:, t])
        advantage = torch.where(mask[:, t], here, advantage)
        next_value = torch.where(mask[:, t], values[:, t], next_value)
    return advantages, advantages + values


def _summed(values: Tensor, group: Tensor) -> Tensor:
    """The sum of each one's group (b,)."""
    return values.new_zeros(int(group.max()) + 1 if len(group) else 0).index_add(0, group, values)[group]


def _above_least(rewards: Tensor, group: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rewards less the least of their group, the sum of these over the group, and how many were scored there; all (b,), 0 for NaN.

    Distances from the least reward have the same differences, and equal rewards stay equal in floating point.
    """
    check_shapes("rewards by group", {"rewards": rewards, "group": group})
    rewards, scored = rewards.detach(), ~rewards.isnan()
    infinite = rewards.new_full((int(group.max()) + 1 if len(group) else 0,), torch.inf)
    least = infinite.scatter_reduce(0, group, torch.where(scored, rewards, torch.inf), "amin")[group]
    above = masked(rewards - least, scored)
    return above, _summed(above, group), _summed(scored.to(rewards.dtype), group)


def leave_one_out(rewards: Tensor, group: Tensor) -> Tensor:
    """Advantage of each completion (b,): its reward minus the mean reward of the *other* completions of its group.

    NaN marks a completion that could not be scored: it is in nobody's baseline and its own advantage is 0. So is that of a
    completion without scored siblings. Equal rewards give exactly 0.

    Args:
        rewards: (b,), NaN where there is none.
        group: (b,) long, number of the prompt.

    Source: Ahmadian et al. 2024 eq. 9; Kool et al. 2019.
    """
    above, sums, counts = _above_least(rewards, group)
    return masked((counts * above - sums) / (counts - 1).clamp_min(1), ~rewards.isnan())


def from_group_mean(rewards: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """Rewards less the mean of their group, and the group's standard deviation (divided by n - 1), both (b,).

    As in `leave_one_out`, NaN is in no group's numbers and gets 0. A completion alone, and equal rewards, have exactly 0 and 0.
    """
    above, sums, counts = _above_least(rewards, group)
    centred = masked(above - sums / counts.clamp_min(1), ~rewards.isnan())
    return centred, (_summed(centred.square(), group) / (counts - 1).clamp_min(1)).sqrt()


def whiten(x: Tensor, mask: Tensor, *, shift_mean: bool = True) -> Tensor:
    """`x` scaled to standard deviation 1 over the mask, shape of `x`, 0 outside; mean 0, or kept with `shift_mean=False`.

    `(x - mean) / sqrt(var + 1e-8)` with the biased variance (divided by n) of lm-human-preferences and of Huang et al. 2024;
    TRL divides by n - 1. Advantages lose their mean, rewards keep it. Whiten the whole batch, not its micro-batches.
    """
    check_shapes("whiten", {"x": x, "mask": mask})
    x = masked(x.detach(), mask)
    n = mask.sum().clamp_min(1)
    mean = x.sum() / n
    variance = masked((x - mean).square(), mask).sum() / n
    white = (x - mean) * torch.rsqrt(variance + 1e-8)
    return masked(white if shift_mean else white + mean, mask)

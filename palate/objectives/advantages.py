"""From rewards to advantages: pure functions on padded tensors, nothing differentiable comes out.

`b` completions of up to `t` tokens; masks are True where a token was sampled. Results are 0 outside the mask and do not
depend on the width or the side of the padding, nor on what stands in it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from palate.objectives.kl import k1
from palate.objectives.reduce import check_shapes, masked


def token_rewards(scores: Tensor, logps: Tensor, reference_logps: Tensor, mask: Tensor, kl_coef: float) -> Tensor:
    """Reward of every token (b, t): `-kl_coef * (logp - reference)`, and the score on top at the last token.

    The sum of a row is the score minus `kl_coef` times the KL estimate (k1) of its completion in nats. The score stands on the last
    token of the mask, wherever the padding is. A row with an empty mask gives zeros whatever its score; clear the mask of
    completions that could not be scored.

    Args:
        scores: (b,) of whole completions.
        logps: (b, t) nats under the policy that sampled.
        reference_logps: (b, t) nats under the reference.
        mask: (b, t) bool.
        kl_coef: reward units a nat.

    Source: Ziegler et al. 2019 eq. 2.
    """
    check_shapes("token_rewards", {"logps": logps, "reference_logps": reference_logps, "mask": mask})
    later = mask.flip(1).cumsum(1).flip(1)
    last = mask & (later == 1)
    penalty = -kl_coef * k1(logps.detach(), reference_logps.detach())
    return masked(penalty, mask) + masked(scores.detach()[:, None].expand(mask.shape).to(penalty.dtype), last)


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


def leave_one_out(rewards: Tensor) -> Tensor:
    """Advantage of each completion (g, k): its reward minus the mean reward of the *other* completions of its prompt.

    NaN marks a completion that could not be scored: it is in nobody's baseline and its own advantage is 0. So is that of a
    completion without scored siblings. Equal rewards give exactly 0.

    Source: Ahmadian et al. 2024 eq. 9; Kool et al. 2019.
    """
    rewards = rewards.detach()
    scored = ~rewards.isnan()
    n = scored.sum(1, keepdim=True)
    # Distances from the group's lowest reward: the same differences, and equal rewards stay equal in floating point.
    lowest = torch.where(scored, rewards, torch.inf).amin(1, keepdim=True)
    above = masked(rewards - lowest, scored)
    advantage = (n * above - above.sum(1, keepdim=True)) / (n - 1).clamp_min(1)
    return masked(advantage, scored)


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

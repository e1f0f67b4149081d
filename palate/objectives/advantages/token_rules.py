"""Rules with an advantage for each token: generalised advantage estimates (PPO), and reward to go (REINFORCE++)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from palate.core import ConfigError
from palate.objectives.advantages.episodes import Episodes, TokenCredit
from palate.objectives.advantages.formulas import from_group_mean, gae, token_rewards, whiten


def _require_share(kind: str, name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"{kind}: {name} must lie between 0 and 1, got {value}; use 1 for no discount")


@dataclass(frozen=True, kw_only=True)
class GAE:
    """Generalised advantage estimates against a value model (PPO), whitened over the batch.

    `delta_t = r_t + gamma V_{t+1} - V_t`, `A_t = delta_t + gamma lam A_{t+1}`, V after the end 0; returns `A + V` before whitening.
    The token rewards contain the KL penalty.

    Source: Schulman et al. 2016 eq. 16; gamma 1, lam 0.95 and the whitening (biased variance) from lm-human-preferences.

    Attributes:
        gamma: discount per token.
        lam: 0 trusts the values, 1 the rewards.
        whiten: scale the advantages of the batch to mean 0 and standard deviation 1.
    """

    needs_values: ClassVar[bool] = True
    needs_siblings: ClassVar[bool] = False

    kind: Literal["gae"] = "gae"
    gamma: float = 1.0
    lam: float = 0.95
    whiten: bool = True

    def __post_init__(self) -> None:
        """Check the settings."""
        _require_share("gae", "gamma", self.gamma)
        _require_share("gae", "lam", self.lam)

    def __call__(self, episodes: Episodes) -> TokenCredit:
        """Return advantages and returns of every token.

        Raises:
            ValueError: the episodes have no values.
        """
        if episodes.values is None:
            raise ValueError("gae needs values; pass Episodes the values of a value model, or use a rule that needs none")
        rows = episodes.rows()
        mask = rows.mask & ~episodes.rewards.isnan()[:, None]
        rewards = token_rewards(episodes.rewards, rows.pad(episodes.penalties), mask)
        advantages, returns = gae(rewards, rows.pad(episodes.values), mask, self.gamma, self.lam)
        advantages = whiten(advantages, mask) if self.whiten else advantages
        return TokenCredit(rows.flat(advantages), rows.flat(returns), episodes.mask)


@dataclass(frozen=True, kw_only=True)
class ReinforcePlusPlus:
    """Reward to go of each token, whitened over all tokens of the batch (REINFORCE++); no value model.

    `A_t = sum_{k >= t} gamma^(k - t) (r_k - penalty_k)`, then `(A - mean) / sqrt(var + 1e-8)` with the biased variance. With
    baseline `prompt` the mean reward of the group is first subtracted from a completion's reward; the scale is still that of the batch.
    That mean contains the completion itself, and no mean contains KL. So KL weighs k / (k - 1) times as much as its coefficient says.

    Source: Hu et al. 2025 (REINFORCE++, version 9) eq. 4 and 5; with the baseline eq. 6 and 7, where the authors put KL in the loss.

    Attributes:
        baseline: none, or prompt to subtract the mean reward of the prompt's completions first.
        gamma: discount per token.
    """

    needs_values: ClassVar[bool] = False

    kind: Literal["reinforce_plus_plus"] = "reinforce_plus_plus"
    baseline: Literal["none", "prompt"] = "none"
    gamma: float = 1.0

    def __post_init__(self) -> None:
        """Check the settings."""
        _require_share("reinforce_plus_plus", "gamma", self.gamma)

    @property
    def needs_siblings(self) -> bool:
        """Return whether prompts need two completions or more."""
        return self.baseline == "prompt"

    def __call__(self, episodes: Episodes) -> TokenCredit:
        """Return advantages of every token; no returns."""
        rows = episodes.rows()
        mask = rows.mask & ~episodes.rewards.isnan()[:, None]
        rewards = token_rewards(self._rewards(episodes), rows.pad(episodes.penalties), mask)
        to_go, _ = gae(rewards, torch.zeros_like(rewards), mask, self.gamma, 1.0)
        return TokenCredit(rows.flat(whiten(to_go, mask)), None, episodes.mask)

    def _rewards(self, episodes: Episodes) -> Tensor:
        return from_group_mean(episodes.rewards, episodes.group)[0] if self.baseline == "prompt" else episodes.rewards

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
        raise ConfigError(f"{kind}: {name} must lie between 0 and 1, got {value}; 1 forgets nothing")


@dataclass(frozen=True, kw_only=True)
class GAE:
    """Generalised advantage estimates against a value model (PPO), whitened over the batch.

    `delta_t = r_t + gamma V_{t+1} - V_t`, `A_t = delta_t + gamma lam A_{t+1}`, V after the end 0; returns `A + V` before whitening.
    The price of KL stands in the token rewards.

    Source: Schulman et al. 2016 eq. 16; gamma 1, lam 0.95 and the whitening (biased variance) from lm-human-preferences.

    Attributes:
        gamma: discount a token.
        lam: 0 trusts the values, 1 the rewards.
        whiten: advantages of the batch get mean 0 and standard deviation 1.
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
        """Advantages and returns of every token.

        Raises:
            ValueError: the episodes have no values.
        """
        if episodes.values is None:
            raise ValueError("gae needs values; give Episodes those of a value model, or take a rule that needs none")
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
    baseline `prompt` a completion's reward first loses the mean of its group: the scale is then still the batch's, not the group's.
    That mean contains the completion itself and KL is in no mean, so KL is dearer by k / (k - 1) than it is set.

    Source: Hu 2025 (REINFORCE++) eq. 7 and 8, and its variant with a baseline.

    Attributes:
        baseline: none, or prompt: the mean reward of the prompt's completions is taken off first.
        gamma: discount a token.
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
        """Whether prompts need two completions or more."""
        return self.baseline == "prompt"

    def __call__(self, episodes: Episodes) -> TokenCredit:
        """Advantages of every token; no returns."""
        rows = episodes.rows()
        mask = rows.mask & ~episodes.rewards.isnan()[:, None]
        rewards = token_rewards(self._rewards(episodes), rows.pad(episodes.penalties), mask)
        to_go, _ = gae(rewards, torch.zeros_like(rewards), mask, self.gamma, 1.0)
        return TokenCredit(rows.flat(whiten(to_go, mask)), None, episodes.mask)

    def _rewards(self, episodes: Episodes) -> Tensor:
        return from_group_mean(episodes.rewards, episodes.group)[0] if self.baseline == "prompt" else episodes.rewards

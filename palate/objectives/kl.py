"""Distance from the reference: three estimators of KL(policy || reference), and how its price is set.

The estimators take log-probabilities of tokens *sampled from the policy*. As a penalty in the reward any of them prices the same
thing; as a loss their gradients differ: k1's is zero on average, k2's is that of KL(policy || reference), k3's that of
KL(reference || policy).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from palate.core import ConfigError, TrainingError

ERROR_LIMIT = 0.2
"""Largest relative error an adaptive step acts on (Ziegler et al. 2019 sec. 2.2)."""


def k1(logps: Tensor, reference_logps: Tensor) -> Tensor:
    """`l = logp - reference`, nats, shape of `logps`: unbiased, may be negative for single tokens."""
    return logps - reference_logps


def k2(logps: Tensor, reference_logps: Tensor) -> Tensor:
    """`l^2 / 2`, nats, shape of `logps`: never negative, biased, its gradient is that of KL(policy || reference)."""
    return 0.5 * (logps - reference_logps).square()


def k3(logps: Tensor, reference_logps: Tensor) -> Tensor:
    """`exp(-l) - 1 + l`, nats, shape of `logps`: unbiased and never negative (Schulman 2020)."""
    log_ratio = logps - reference_logps
    return (-log_ratio).expm1() + log_ratio


@dataclass(frozen=True, kw_only=True)
class FixedKL:
    """A price of KL that stays (0.05 in Huang et al. 2024).

    Attributes:
        coef: reward units a nat; 0 gives the reward model free rein.
    """

    kind: Literal["fixed_kl"] = "fixed_kl"
    coef: float = 0.05

    def __post_init__(self) -> None:
        """Checks the setting."""
        if not 0 <= self.coef < math.inf:
            raise ConfigError(f"fixed_kl: coef must be >= 0 and finite, got {self.coef}; 0.05 is usual, 0 gives the reward model free rein")

    def start(self) -> float:
        """The coefficient before the first batch."""
        return self.coef

    def next_coef(self, coef: float, observed_kl: float, episodes: int) -> float:  # noqa: ARG002 (one signature for both)
        """The coefficient for the next batch: `coef`, whatever was observed."""
        return coef


@dataclass(frozen=True, kw_only=True)
class AdaptiveKL:
    """A price of KL that steers towards a target, in nats a completion.

    `coef *= 1 + clip(kl / target - 1, -0.2, 0.2) * episodes / horizon`. Source: Ziegler et al. 2019 sec. 2.2; init_coef 0.15,
    target 6 and horizon 10000 from lm-human-preferences.

    Attributes:
        init_coef: the first price, reward units a nat.
        target: KL steered to, nats a completion.
        horizon: episodes over which the price can change by a fifth of itself, roughly.
    """

    kind: Literal["adaptive_kl"] = "adaptive_kl"
    init_coef: float = 0.15
    target: float = 6.0
    horizon: int = 10000

    def __post_init__(self) -> None:
        """Checks the settings."""
        for name, value in (("init_coef", self.init_coef), ("target", self.target), ("horizon", self.horizon)):
            if not 0 < value < math.inf:
                raise ConfigError(f"adaptive_kl: {name} must be > 0 and finite, got {value}; a price of 0 could never rise: use fixed_kl")

    def start(self) -> float:
        """The coefficient before the first batch."""
        return self.init_coef

    def next_coef(self, coef: float, observed_kl: float, episodes: int) -> float:
        """The coefficient for the next batch.

        Args:
            coef: that of this batch.
            observed_kl: nats, sum over the tokens of a completion, mean over completions.
            episodes: completions in this batch (not tokens).

        Raises:
            TrainingError: the observed KL is not a finite number.
            ConfigError: the batch is so large against the horizon that the coefficient could reach 0.
        """
        if not math.isfinite(observed_kl):
            raise TrainingError(f"adaptive_kl: the observed KL is {observed_kl}; lower the learning rate and look at the log-ratios")
        if not ERROR_LIMIT * episodes < self.horizon:
            raise ConfigError(
                f"adaptive_kl: {episodes} episodes a batch against horizon {self.horizon} could turn the coefficient negative; "
                f"raise horizon above {ERROR_LIMIT * episodes:.0f}"
            )
        error = min(max(observed_kl / self.target - 1, -ERROR_LIMIT), ERROR_LIMIT)
        return coef * (1 + error * episodes / self.horizon)


KLControl = FixedKL | AdaptiveKL

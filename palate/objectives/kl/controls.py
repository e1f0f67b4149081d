"""How the price of KL is set, batch by batch: it stays, it steers to a target, or it comes with a budget.

A control is frozen; what changes is a `KLState`, two numbers that a checkpoint can hold. `observed_kl` is always that of the policy
that sampled the batch: nats by k1, summed over the tokens of a completion, mean over completions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from palate.core import ConfigError, TrainingError

ERROR_LIMIT = 0.2
"""Largest relative error an adaptive step acts on (Ziegler et al. 2019 sec. 2.2)."""


@dataclass(frozen=True)
class KLState:
    """Where a control stands. `vars(state)` are its numbers, `KLState(**numbers)` restores it.

    Attributes:
        coef: price of the next batch, reward units a nat.
        is_spent: the budget is used up: the policy that sampled last is beyond it. Stop, and keep the weights of the step before.
    """

    coef: float
    is_spent: bool = False


def _require_above_zero(kind: str, **settings: float) -> None:
    for name, value in settings.items():
        if not 0 < value < math.inf:
            raise ConfigError(f"{kind}: {name} must be > 0 and finite, got {value}; a price of 0 could never rise: use fixed_kl")


def _require_number(kind: str, observed_kl: float) -> None:
    if not math.isfinite(observed_kl):
        raise TrainingError(f"{kind}: the observed KL is {observed_kl}; lower the learning rate and look at the log-ratios")


@dataclass(frozen=True, kw_only=True)
class FixedKL:
    """A price of KL that stays (0.05 in Huang et al. 2024).

    Attributes:
        coef: reward units a nat; 0 gives the reward model free rein.
    """

    kind: Literal["fixed_kl"] = "fixed_kl"
    coef: float = 0.05

    def __post_init__(self) -> None:
        """Check the setting."""
        if not 0 <= self.coef < math.inf:
            raise ConfigError(f"fixed_kl: coef must be >= 0 and finite, got {self.coef}; 0.05 is usual, 0 gives the reward model free rein")

    def start(self) -> KLState:
        """The state before the first batch."""
        return KLState(self.coef)

    def after(self, state: KLState, observed_kl: float, episodes: int) -> KLState:  # noqa: ARG002 (one signature for all)
        """The state for the next batch: `state`, whatever was observed."""
        return state


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
        """Check the settings."""
        _require_above_zero("adaptive_kl", init_coef=self.init_coef, target=self.target, horizon=self.horizon)

    def start(self) -> KLState:
        """The state before the first batch."""
        return KLState(self.init_coef)

    def after(self, state: KLState, observed_kl: float, episodes: int) -> KLState:
        """The state for the next batch.

        Args:
            state: that of this batch.
            observed_kl: nats a completion.
            episodes: completions in this batch (not tokens).

        Raises:
            TrainingError: the observed KL is not a finite number.
            ConfigError: the batch is so large against the horizon that the coefficient could reach 0.
        """
        _require_number(self.kind, observed_kl)
        if not ERROR_LIMIT * episodes < self.horizon:
            raise ConfigError(
                f"adaptive_kl: {episodes} episodes a batch against horizon {self.horizon} could turn the coefficient negative; "
                f"raise horizon above {ERROR_LIMIT * episodes:.0f}"
            )
        error = min(max(observed_kl / self.target - 1, -ERROR_LIMIT), ERROR_LIMIT)
        return KLState(state.coef * (1 + error * episodes / self.horizon))


@dataclass(frozen=True, kw_only=True)
class TargetKL:
    """A price of KL that is multiplied up or down each batch until KL is at its target, in nats a completion.

    `coef *= clip((kl / target) ** gain, 1 / limit, limit)`, held between `floor` and `ceiling`. Unlike `AdaptiveKL` its pace does not
    depend on the size of a batch, and it is quick: for runs of tens of steps. The floor keeps the price from fading away
    while a young policy is still below the target.

    Source: a proportional controller in the logarithm of the price; doubling and halving by Schulman et al. 2017 sec. 4 is its
    form with two steps.

    Attributes:
        init_coef: the first price, reward units a nat.
        target: KL steered to, nats a completion.
        gain: 1 answers a KL of twice the target with twice the price; less is calmer.
        limit: the largest factor of one batch.
        floor: the least price.
        ceiling: the highest price.
    """

    kind: Literal["target_kl"] = "target_kl"
    init_coef: float = 0.05
    target: float = 6.0
    gain: float = 0.5
    limit: float = 1.5
    floor: float = 0.005
    ceiling: float = 5.0

    def __post_init__(self) -> None:
        """Check the settings."""
        _require_above_zero("target_kl", target=self.target, gain=self.gain, floor=self.floor)
        if not 1 < self.limit < math.inf:
            raise ConfigError(f"target_kl: limit must be above 1, got {self.limit}; 1.5 is usual")
        if not self.floor <= self.init_coef <= self.ceiling < math.inf:
            raise ConfigError(
                f"target_kl: init_coef {self.init_coef} must lie between floor {self.floor} and ceiling {self.ceiling}; move one of them"
            )

    def start(self) -> KLState:
        """The state before the first batch."""
        return KLState(self.init_coef)

    def after(self, state: KLState, observed_kl: float, episodes: int) -> KLState:  # noqa: ARG002 (one signature for all)
        """The state for the next batch.

        Raises:
            TrainingError: the observed KL is not a finite number.
        """
        _require_number(self.kind, observed_kl)
        factor = (max(observed_kl, 0.0) / self.target) ** self.gain
        coef = state.coef * min(max(factor, 1 / self.limit), self.limit)
        return KLState(min(max(coef, self.floor), self.ceiling))


KLPrice = FixedKL | AdaptiveKL | TargetKL


@dataclass(frozen=True, kw_only=True)
class BudgetKL:
    """A number of nats a completion that the policy may move, at a price that another control sets.

    A price does not much move the distance at which the truth begins to fall behind the score (Gao et al. 2023), so a limit on the
    distance is a rule of its own. When the policy that sampled is found beyond `nats`, the state `is_spent`: stop, and keep the
    weights of the step before.

    Attributes:
        nats: KL that may be spent, nats a completion.
        price: what KL costs on the way there.
    """

    kind: Literal["budget_kl"] = "budget_kl"
    nats: float = 10.0
    price: KLPrice = field(default_factory=FixedKL)

    def __post_init__(self) -> None:
        """Check the setting."""
        if not 0 < self.nats < math.inf:
            raise ConfigError(f"budget_kl: nats must be > 0 and finite, got {self.nats}; use the price alone to spend without a budget")

    def start(self) -> KLState:
        """The state before the first batch."""
        return self.price.start()

    def after(self, state: KLState, observed_kl: float, episodes: int) -> KLState:
        """The state for the next batch; spent once, it stays so.

        Raises:
            TrainingError: the observed KL is not a finite number.
        """
        _require_number(self.kind, observed_kl)
        moved = self.price.after(state, observed_kl, episodes)
        return KLState(moved.coef, state.is_spent or observed_kl > self.nats)


KLControl = KLPrice | BudgetKL

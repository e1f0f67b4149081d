"""How the KL coefficient is set, batch by batch: fixed, steered to a target, or with a budget.

A control is frozen; its state is a `KLState`, two numbers that a checkpoint holds. `observed_kl` is always the KL of the policy that
sampled the batch: nats by k1, summed over the tokens of a completion, mean over completions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from palate.core import ConfigError, TrainingError

ERROR_LIMIT = 0.2
"""Largest relative error that an adaptive step uses (Ziegler et al. 2019 sec. 2.2)."""


@dataclass(frozen=True)
class KLState:
    """State of a control. `vars(state)` are its numbers, and `KLState(**numbers)` restores it.

    Attributes:
        coef: coefficient of the next batch, reward units per nat.
        is_spent: whether the policy that sampled last is beyond the budget. Then stop, and keep the weights of the step before.
    """

    coef: float
    is_spent: bool = False


def _require_above_zero(kind: str, **settings: float) -> None:
    for name, value in settings.items():
        if not 0 < value < math.inf:
            raise ConfigError(
                f"{kind}: {name} must be > 0 and finite, got {value}; a coefficient of 0 can never rise, so use fixed_kl for it"
            )


def _require_number(kind: str, observed_kl: float) -> None:
    if not math.isfinite(observed_kl):
        raise TrainingError(f"{kind}: the observed KL is {observed_kl}; lower the learning rate and check the log-ratios")


@dataclass(frozen=True, kw_only=True)
class FixedKL:
    """A fixed KL coefficient (0.05 in Huang et al. 2024).

    Attributes:
        coef: reward units per nat; at 0 the reward is not penalised.
    """

    kind: Literal["fixed_kl"] = "fixed_kl"
    coef: float = 0.05

    @property
    def limit_nats(self) -> float | None:
        """The KL that this control steers to or allows, nats per completion: none."""
        return None

    def __post_init__(self) -> None:
        """Check the setting."""
        if not 0 <= self.coef < math.inf:
            raise ConfigError(f"fixed_kl: coef must be >= 0 and finite, got {self.coef}; use 0.05, or 0 for no penalty")

    def start(self) -> KLState:
        """Return the state before the first batch."""
        return KLState(self.coef)

    def after(self, state: KLState, observed_kl: float, episodes: int) -> KLState:  # noqa: ARG002 (one signature for all)
        """Return the state for the next batch, which is `state` whatever was observed."""
        return state


@dataclass(frozen=True, kw_only=True)
class AdaptiveKL:
    """A KL coefficient that steers towards a target, in nats per completion.

    `coef *= 1 + clip(kl / target - 1, -0.2, 0.2) * episodes / horizon`. Source: Ziegler et al. 2019 sec. 2.2; init_coef 0.15,
    target 6 and horizon 10000 from lm-human-preferences.

    Attributes:
        init_coef: the initial coefficient, reward units per nat.
        target: the KL to reach, nats per completion.
        horizon: number of episodes over which the coefficient can change by about a fifth.
    """

    kind: Literal["adaptive_kl"] = "adaptive_kl"
    init_coef: float = 0.15
    target: float = 6.0
    horizon: int = 10000

    @property
    def limit_nats(self) -> float:
        """The KL that this control steers to, nats per completion."""
        return self.target

    def __post_init__(self) -> None:
        """Check the settings."""
        _require_above_zero("adaptive_kl", init_coef=self.init_coef, target=self.target, horizon=self.horizon)

    def start(self) -> KLState:
        """Return the state before the first batch."""
        return KLState(self.init_coef)

    def after(self, state: KLState, observed_kl: float, episodes: int) -> KLState:
        """Return the state for the next batch.

        Args:
            state: state of this batch.
            observed_kl: nats per completion.
            episodes: completions in this batch (not tokens).

        Raises:
            TrainingError: the observed KL is not a finite number.
            ConfigError: the batch is so large relative to the horizon that the coefficient could reach 0.
        """
        _require_number(self.kind, observed_kl)
        if not ERROR_LIMIT * episodes < self.horizon:
            raise ConfigError(
                f"adaptive_kl: {episodes} episodes per batch with horizon {self.horizon} could make the coefficient negative; "
                f"raise horizon above {ERROR_LIMIT * episodes:.0f}"
            )
        error = min(max(observed_kl / self.target - 1, -ERROR_LIMIT), ERROR_LIMIT)
        return KLState(state.coef * (1 + error * episodes / self.horizon))


@dataclass(frozen=True, kw_only=True)
class TargetKL:
    """A KL coefficient that is multiplied up or down each batch until KL reaches its target, in nats per completion.

    `coef *= clip((kl / target) ** gain, 1 / limit, limit)`, clamped between `floor` and `ceiling`. Unlike that of `AdaptiveKL`, its pace
    does not depend on the size of a batch. It is fast, for runs of tens of iterations. The floor keeps the coefficient from vanishing while
    KL is still below the target.

    Source: a proportional controller in the logarithm of the coefficient. The doubling and halving of Schulman et al. 2017 sec. 4 is its
    form with two steps.

    Attributes:
        init_coef: the initial coefficient, reward units per nat.
        target: the KL to reach, nats per completion.
        gain: at 1 a KL of twice the target doubles the coefficient; a smaller gain reacts less.
        limit: the largest factor of one batch.
        floor: the smallest coefficient.
        ceiling: the largest coefficient.
    """

    kind: Literal["target_kl"] = "target_kl"
    init_coef: float = 0.05
    target: float = 6.0
    gain: float = 0.5
    limit: float = 1.5
    floor: float = 0.005
    ceiling: float = 5.0

    @property
    def limit_nats(self) -> float:
        """The KL that this control steers to, nats per completion."""
        return self.target

    def __post_init__(self) -> None:
        """Check the settings."""
        _require_above_zero("target_kl", target=self.target, gain=self.gain, floor=self.floor)
        if not 1 < self.limit < math.inf:
            raise ConfigError(f"target_kl: limit must be above 1, got {self.limit}; use 1.5")
        if not self.floor <= self.init_coef <= self.ceiling < math.inf:
            raise ConfigError(
                f"target_kl: init_coef {self.init_coef} must lie between floor {self.floor} and ceiling {self.ceiling}; change one of them"
            )

    def start(self) -> KLState:
        """Return the state before the first batch."""
        return KLState(self.init_coef)

    def after(self, state: KLState, observed_kl: float, episodes: int) -> KLState:  # noqa: ARG002 (one signature for all)
        """Return the state for the next batch.

        Raises:
            TrainingError: the observed KL is not a finite number.
        """
        _require_number(self.kind, observed_kl)
        factor = (max(observed_kl, 0.0) / self.target) ** self.gain
        coef = state.coef * min(max(factor, 1 / self.limit), self.limit)
        return KLState(min(max(coef, self.floor), self.ceiling))


KLPrice = FixedKL | AdaptiveKL | TargetKL
"""Controls that set the coefficient alone."""


@dataclass(frozen=True, kw_only=True)
class BudgetKL:
    """A limit on the policy's KL in nats per completion, with a coefficient that another control sets.

    The coefficient hardly changes the KL at which true quality begins to fall behind the score (Gao et al. 2023), so this control limits
    the KL itself. When the policy that sampled is beyond `nats`, the state `is_spent`: stop, and keep the weights of the step before.

    Attributes:
        nats: the largest KL allowed, nats per completion.
        price: the control that sets the coefficient until then.
    """

    kind: Literal["budget_kl"] = "budget_kl"
    nats: float = 10.0
    price: KLPrice = field(default_factory=FixedKL)

    @property
    def limit_nats(self) -> float:
        """The KL that this control allows, nats per completion."""
        return self.nats

    def __post_init__(self) -> None:
        """Check the setting."""
        if not 0 < self.nats < math.inf:
            raise ConfigError(f"budget_kl: nats must be > 0 and finite, got {self.nats}; use the control in price alone for no budget")

    def start(self) -> KLState:
        """Return the state before the first batch."""
        return self.price.start()

    def after(self, state: KLState, observed_kl: float, episodes: int) -> KLState:
        """Return the state for the next batch; a spent budget stays spent.

        Raises:
            TrainingError: the observed KL is not a finite number.
        """
        _require_number(self.kind, observed_kl)
        priced = self.price.after(state, observed_kl, episodes)
        return KLState(priced.coef, state.is_spent or observed_kl > self.nats)


KLControl = KLPrice | BudgetKL
"""All controls."""

"""Which weights a run keeps: the last, or those that did best on data held out; and when to stop looking for better ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from palate.core import ConfigError, RunError, TrainingError
from palate.training.learner import Learner


@dataclass(frozen=True)
class Last:
    """Keep the weights of the last step."""

    kind: Literal["last"] = "last"


@dataclass(frozen=True)
class Best:
    """Keep the weights with the least loss on held-out data, measured between steps and after the last one.

    Attributes:
        every: optimizer steps between two measurements; none measures once an epoch.
        patience: stop after this many measurements in a row that found nothing better; none goes on to the end.
    """

    kind: Literal["best"] = "best"
    every: int | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        _require_counts(every=self.every, patience=self.patience)

    def rank(self, found: HeldOutMeasurement) -> tuple[float, float]:
        """Sorts measurements, the best first: by the loss."""
        return 0.0, found.loss


@dataclass(frozen=True)
class BestReward:
    """Keep the weights with the highest reward on held-out prompts among those within a KL budget.

    As long as none is within it, those that exceed it least are kept.

    Attributes:
        kl_budget: nats a completion that the policy may lie from the reference; none takes the highest reward at any distance.
        every: rounds between two measurements; none measures after the last one alone.
        patience: stop after this many measurements in a row that found nothing better; none goes on to the end.
    """

    kind: Literal["best_reward"] = "best_reward"
    kl_budget: float | None = None
    every: int | None = 1
    patience: int | None = None

    def __post_init__(self) -> None:
        _require_counts(every=self.every, patience=self.patience)
        if self.kl_budget is not None and not self.kl_budget > 0:
            raise ConfigError(f"kl_budget must be above 0, got {self.kl_budget}")

    def rank(self, found: HeldOutMeasurement) -> tuple[float, float]:
        """Sorts measurements, the best first: by what exceeds the budget, then by the reward."""
        excess = 0.0 if self.kl_budget is None else max(0.0, found.kl - self.kl_budget)
        return excess, found.loss


def _require_counts(**counts: int | None) -> None:
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}")


Keep = Last | Best


@dataclass(frozen=True)
class HeldOutMeasurement:
    """What held-out data say of the weights as they are.

    Attributes:
        loss: the less, the better; for a reward, the reward with its sign turned.
        kl: nats a completion from the reference; 0 where there is none.
    """

    loss: float
    kl: float = 0.0

    @classmethod
    def of_reward(cls, reward: float, kl: float) -> HeldOutMeasurement:
        """What a policy's own completions of held-out prompts say of it."""
        return cls(-reward, kl)


@dataclass(frozen=True)
class HeldOut:
    """How a run looks for its best weights."""

    keep: Best | BestReward
    measure: Callable[[], float | HeldOutMeasurement]
    """What held-out data say of the weights as they are; a bare number is a loss."""


class Search:
    """The search for the best weights; its `state` is part of every checkpoint, the best weights are a checkpoint of their own.

    A run that is resumed measures again what came after its last checkpoint, finds the same, and writes the same.
    """

    def __init__(self, held_out: HeldOut | None, learner: Learner, directory: Path, steps_per_epoch: int, steps: int) -> None:
        self._held_out, self._learner, self._directory = held_out, learner, directory
        self._every = steps if held_out is None else held_out.keep.every or steps_per_epoch
        self._steps = steps
        self.state: dict[str, float] = {"step": 0, "loss": math.inf, "kl": math.inf, "misses": 0}

    @property
    def is_over(self) -> bool:
        """Whether nothing better was found for too long."""
        patience = None if self._held_out is None else self._held_out.keep.patience
        return patience is not None and self.state["misses"] >= patience

    def restore(self, numbers: Mapping[str, object] | None) -> None:
        """Goes on from a checkpoint's numbers."""
        if numbers is not None:
            self.state = dict(cast("dict[str, float]", numbers["search"]))

    def look(self, done: int | None = None) -> dict[str, float]:
        """After a step: what held-out data say where a measurement is due, the weights kept where they are the best so far.

        Args:
            done: steps done, where they are not the learner's own (rounds of online training).

        Raises:
            TrainingError: what was measured is not finite.
        """
        step = self._learner.steps_done if done is None else done
        if self._held_out is None or (step % self._every and step < self._steps):
            return {}
        value, rank = self._held_out.measure(), self._held_out.keep.rank
        found = value if isinstance(value, HeldOutMeasurement) else HeldOutMeasurement(value)
        if not (math.isfinite(found.loss) and math.isfinite(found.kl)):
            raise TrainingError(f"after step {step} the loss on held-out data is {found.loss}: look for broken rows in it")
        if rank(found) < rank(HeldOutMeasurement(self.state["loss"], self.state["kl"])):
            self.state = {"step": step, "loss": found.loss, "kl": found.kl, "misses": 0}
            self._learner.save(self._directory, {})
        else:
            self.state = {**self.state, "misses": self.state["misses"] + 1}
        return self._told(found)

    def _told(self, found: HeldOutMeasurement) -> dict[str, float]:
        """The measurement by the names that it is logged under."""
        is_reward = self._held_out is not None and isinstance(self._held_out.keep, BestReward)
        return {"held_out_reward/mean": -found.loss, "held_out_kl/mean": found.kl} if is_reward else {"held_out_loss/mean": found.loss}

    def finish(self) -> dict[str, float]:
        """Puts the best weights back; tells their step (counted from 1) and what was measured. Nothing without held-out data."""
        if self._held_out is None:
            return {}
        if self._learner.load(self._directory) is None:
            raise RunError(f"the best weights are gone from {self._directory}: run the stage again with --fresh")
        told = self._told(HeldOutMeasurement(self.state["loss"], self.state["kl"]))
        return {"best_step": self.state["step"], **{f"best_{name.removesuffix('/mean')}": value for name, value in told.items()}}

"""Which weights a run keeps: the last, or the best on held-out data; and when to stop looking for better ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from palate.core import ConfigError, RunError, TrainingError
from palate.training.learner import Learner


@dataclass(frozen=True)
class Last:
    """Keep the weights of the last step."""

    kind: Literal["last"] = "last"


@dataclass(frozen=True)
class Best:
    """Keep the weights with the lowest loss on held-out data, measured between steps and after the last one.

    Attributes:
        every: optimizer steps between two measurements; none measures once per epoch.
        patience: stop after this many measurements in a row without an improvement; none continues to the end.
    """

    kind: Literal["best"] = "best"
    every: int | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        _require_counts(every=self.every, patience=self.patience)

    def rank(self, measurement: HeldOutMeasurement) -> tuple[float, float]:
        """Return a sort key by which the best measurement is first: the loss."""
        return 0.0, measurement.loss


@dataclass(frozen=True)
class BestReward:
    """Keep the weights with the highest reward on held-out prompts among those within a KL budget.

    As long as none is within it, the weights that exceed it least are kept.

    Attributes:
        kl_budget: largest KL from the reference, in nats per completion; none takes the highest reward at any distance.
        every: iterations between two measurements; none measures only after the last one.
        patience: stop after this many measurements in a row without an improvement; none continues to the end.
    """

    kind: Literal["best_reward"] = "best_reward"
    kl_budget: float | None = None
    every: int | None = 1
    patience: int | None = None

    def __post_init__(self) -> None:
        _require_counts(every=self.every, patience=self.patience)
        if self.kl_budget is not None and not self.kl_budget > 0:
            raise ConfigError(f"kl_budget must be above 0, got {self.kl_budget}")

    def rank(self, measurement: HeldOutMeasurement) -> tuple[float, float]:
        """Return a sort key by which the best measurement is first: what exceeds the budget, then the reward."""
        excess = 0.0 if self.kl_budget is None else max(0.0, measurement.kl - self.kl_budget)
        return excess, measurement.loss


def _require_counts(**counts: int | None) -> None:
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}")


Keep = Last | Best


@dataclass(frozen=True)
class HeldOutMeasurement:
    """A measurement of the current weights on held-out data.

    Attributes:
        loss: lower is better; for a reward, the negative reward.
        kl: nats per completion from the reference; 0 where there is none.
        others: what does not choose weights, such as the loss of each source, by the names of metrics of training.
    """

    loss: float
    kl: float = 0.0
    others: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of_reward(cls, reward: float, kl: float, others: Mapping[str, float]) -> HeldOutMeasurement:
        """Return the measurement of a policy by its own completions of held-out prompts."""
        return cls(-reward, kl, others)


def _nothing(_step: int) -> Mapping[str, float]:
    return {}


@dataclass(frozen=True)
class HeldOut:
    """What a run measures with its current weights on data that it does not learn from.

    Attributes:
        keep: how these measurements choose the weights that are kept; with `Last` they do not.
        measure: returns the measurement that chooses weights; a bare number is a loss.
        before: returns what else is measured before a step, by the step's number, as metrics under their full names.
    """

    keep: Last | Best | BestReward
    measure: Callable[[], float | HeldOutMeasurement]
    before: Callable[[int], Mapping[str, float]] = _nothing


class Search:
    """The search for the best weights. Its `state` is part of every checkpoint, and the best weights are a checkpoint of their own.

    A resumed run repeats the measurements after its last checkpoint, with the same results.
    """

    def __init__(self, held_out: HeldOut | None, learner: Learner, directory: Path, steps_per_epoch: int, steps: int) -> None:
        self._held_out, self._learner, self._directory = held_out, learner, directory
        self._keep = None if held_out is None or isinstance(held_out.keep, Last) else held_out.keep
        self._every = steps if self._keep is None else self._keep.every or steps_per_epoch
        self._steps = steps
        self.state: dict[str, Any] = {"step": 0, "loss": math.inf, "kl": math.inf, "others": {}, "misses": 0}

    @property
    def is_over(self) -> bool:
        """Whether the patience is used up."""
        patience = None if self._keep is None else self._keep.patience
        return patience is not None and int(self.state["misses"]) >= patience

    def restore(self, numbers: Mapping[str, object] | None) -> None:
        """Continue from a checkpoint's numbers."""
        if numbers is not None:
            self.state |= cast("dict[str, Any]", numbers["search"])

    def look(self, done: int | None = None) -> dict[str, float]:
        """Measure if a measurement is due after this step, save the weights if they are the best so far, and return metrics.

        Args:
            done: iterations done, for online training; None takes the learner's steps.

        Raises:
            TrainingError: the measurement is not finite.
        """
        step = self._learner.steps_done if done is None else done
        if self._held_out is None or self._keep is None or (step % self._every and step < self._steps):
            return {}
        value, rank = self._held_out.measure(), self._keep.rank
        measurement = value if isinstance(value, HeldOutMeasurement) else HeldOutMeasurement(value)
        if not (math.isfinite(measurement.loss) and math.isfinite(measurement.kl)):
            raise TrainingError(f"after step {step} the loss on held-out data is {measurement.loss}; look for broken rows in them")
        if rank(measurement) < rank(HeldOutMeasurement(self.state["loss"], self.state["kl"])):
            others = dict(measurement.others)
            self.state = {"step": step, "loss": measurement.loss, "kl": measurement.kl, "others": others, "misses": 0}
            self._learner.save(self._directory, {})
        else:
            self.state = {**self.state, "misses": self.state["misses"] + 1}
        return self._metrics(measurement)

    def _metrics(self, measurement: HeldOutMeasurement) -> dict[str, float]:
        """Return the measurement by the names of its metrics."""
        others = {f"held_out_{name}": value for name, value in measurement.others.items()}
        if isinstance(self._keep, BestReward):
            return {"held_out_reward/mean": -measurement.loss, "held_out_kl/mean": measurement.kl, **others}
        return {"held_out_loss/mean": measurement.loss, **others}

    def finish(self) -> dict[str, float]:
        """Restore the best weights, and return their step (counted from 1) and metrics. Where the last ones are kept, do nothing."""
        if self._keep is None:
            return {}
        if self._learner.load(self._directory) is None:
            raise RunError(f"the best weights are gone from {self._directory}; run the stage again with --fresh")
        metrics = self._metrics(HeldOutMeasurement(self.state["loss"], self.state["kl"], self.state["others"]))
        return {"best_step": self.state["step"], **{f"best_{name.removesuffix('/mean')}": value for name, value in metrics.items()}}

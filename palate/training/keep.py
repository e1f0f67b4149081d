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
        for name, value in (("every", self.every), ("patience", self.patience)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")


Keep = Last | Best


@dataclass(frozen=True)
class HeldOut:
    """How a run looks for its best weights."""

    keep: Best
    measure: Callable[[], float]
    """The loss on held-out data with the weights as they are: the less, the better."""


class Search:
    """The search for the best weights; its `state` is part of every checkpoint, the best weights are a checkpoint of their own.

    A run that is resumed measures again what came after its last checkpoint, finds the same, and writes the same.
    """

    def __init__(self, held_out: HeldOut | None, learner: Learner, directory: Path, steps_per_epoch: int, steps: int) -> None:
        self._held_out, self._learner, self._directory = held_out, learner, directory
        self._every = steps if held_out is None else held_out.keep.every or steps_per_epoch
        self._steps = steps
        self.state: dict[str, float] = {"step": 0, "loss": math.inf, "misses": 0}

    @property
    def is_over(self) -> bool:
        """Whether nothing better was found for too long."""
        patience = None if self._held_out is None else self._held_out.keep.patience
        return patience is not None and self.state["misses"] >= patience

    def restore(self, numbers: Mapping[str, object] | None) -> None:
        """Goes on from a checkpoint's numbers."""
        if numbers is not None:
            self.state = dict(cast("dict[str, float]", numbers["search"]))

    def look(self) -> dict[str, float]:
        """After a step: the held-out loss where one is due, the weights kept where it is the least so far.

        Raises:
            TrainingError: the held-out loss is not finite.
        """
        step = self._learner.steps_done
        if self._held_out is None or (step % self._every and step < self._steps):
            return {}
        loss = self._held_out.measure()
        if not math.isfinite(loss):
            raise TrainingError(f"after step {step} the loss on held-out data is {loss}: look for broken rows in it")
        if loss < self.state["loss"]:
            self.state = {"step": step, "loss": loss, "misses": 0}
            self._learner.save(self._directory, {})
        else:
            self.state = {**self.state, "misses": self.state["misses"] + 1}
        return {"held_out_loss/mean": loss}

    def finish(self) -> dict[str, float]:
        """Puts the best weights back; tells their step (counted from 1) and their held-out loss. Nothing without held-out data."""
        if self._held_out is None:
            return {}
        if self._learner.load(self._directory) is None:
            raise RunError(f"the best weights are gone from {self._directory}: run the stage again with --fresh")
        return {"best_step": self.state["step"], "best_held_out_loss": self.state["loss"]}

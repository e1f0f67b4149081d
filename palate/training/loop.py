"""The loop of every offline stage: shuffled epochs over trees, micro-batches by tokens, metrics, checkpoints, resume."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np

from palate.core import ConfigError, Tracker
from palate.objectives.reduce import Sums
from palate.training.learner import Learner

E = TypeVar("E")
CHECKPOINT_SECONDS = 20.0


@dataclass(frozen=True)
class Epochs:
    """Which examples each step sees: a new permutation an epoch, drawn from the seed and the epoch's number alone.

    Nothing but the step's number is needed to go on exactly where a run was cut off.
    """

    examples: int
    per_step: int
    epochs: float
    seed: int

    def __post_init__(self) -> None:
        if self.examples < 1:
            raise ConfigError("there is no example to train on")
        if self.per_step < 1 or self.epochs <= 0:
            raise ConfigError(f"examples per step and epochs must be above 0, got {self.per_step} and {self.epochs}")

    @property
    def steps(self) -> int:
        """Optimizer steps in all; an epoch's last step may be smaller."""
        return max(1, round(self.epochs * self.steps_per_epoch))

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps an epoch."""
        return -(-self.examples // self.per_step)

    def indices(self, step: int) -> list[int]:
        """Examples of step `step`."""
        epoch, k = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([self.seed, epoch]).permutation(self.examples)
        return [int(i) for i in order[k * self.per_step : (k + 1) * self.per_step]]


def fit(
    run: Tracker,
    learner: Learner,
    epochs: Epochs,
    batches: Callable[[list[int]], Sequence[E]],
    loss: Callable[[E], Sums],
    prefix: str,
) -> dict[str, float]:
    """Trains to the end of the epochs (or goes on where it was cut off) and returns the last step's metrics.

    `batches` turns a step's example numbers into micro-batches; metrics are logged as `prefix/...`.
    """
    numbers = learner.load(run.state / "learner")
    run.rewind(learner.steps_done)
    metrics = {} if numbers is None else cast("dict[str, float]", numbers["last"])
    saved = time.monotonic()
    with run.progress(epochs.steps, prefix) as advance:
        advance(learner.steps_done)
        for step in _remaining(learner, epochs):
            metrics = learner.step(batches(epochs.indices(step)), loss)
            run.log(step, {f"{prefix}/{name}": value for name, value in metrics.items()})
            advance(1, f"loss {metrics['loss/mean']:.4f}")
            if time.monotonic() - saved > CHECKPOINT_SECONDS or run.stop_requested:
                learner.save(run.state / "learner", {"last": metrics})
                saved = time.monotonic()
            run.check_stop()
    return metrics


def _remaining(learner: Learner, epochs: Epochs) -> Iterator[int]:
    while learner.steps_done < epochs.steps:
        yield learner.steps_done

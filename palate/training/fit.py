"""The loop of every offline stage: shuffled epochs, optimizer steps, metrics, checkpoints, resuming, and the best weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar, cast

import torch

from palate.core import ConfigError, Tracker, TrainingError, derive_seed
from palate.distributed.sharing import shared
from palate.objectives.reduce import Sums, Totals
from palate.runs.run import Run
from palate.training.checkpoints import Checkpoints
from palate.training.epochs import SourceMixture, epoch_order
from palate.training.examples import Examples
from palate.training.keep import HeldOut, HeldOutMeasurement, Search
from palate.training.learner import Learner, NotFiniteError
from palate.training.source_losses import statistics

E = TypeVar("E")
FEW_STEPS = 4
NAMES_SHOWN = 40
"""Examples that a message names at most."""


def numbered(k: int) -> str:
    """Return the name of example `k` in messages, counted from 1."""
    return f"example {k + 1}"


@dataclass(frozen=True)
class Epochs:
    """Which examples each step sees: a new permutation per epoch, drawn from the seed and the epoch's number alone.

    So the step's number is enough to resume exactly where a run was cut off. With a mixture an epoch has examples of some sources again.
    """

    examples: int
    per_step: int
    epochs: float
    seed: int
    name: Callable[[int], str] = numbered
    """The name of an example in messages."""
    mixture: SourceMixture | None = None

    def __post_init__(self) -> None:
        if self.examples < 1:
            raise ConfigError("there are no examples to train on")
        if self.per_step < 1 or self.epochs <= 0:
            raise ConfigError(f"examples per step and epochs must be above 0, got {self.per_step} and {self.epochs}")

    @property
    def steps(self) -> int:
        """Optimizer steps in all; the last step of an epoch may be smaller."""
        return max(1, round(self.epochs * self.steps_per_epoch))

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps per epoch."""
        return -(-(self.examples if self.mixture is None else len(self.mixture)) // self.per_step)

    def indices(self, step: int) -> list[int]:
        """Return the numbers of the examples in step `step`."""
        epoch, k = divmod(step, self.steps_per_epoch)
        order = epoch_order(self.seed, epoch, self.examples) if self.mixture is None else self.mixture.order(self.seed, epoch)
        return [int(i) for i in order[k * self.per_step : (k + 1) * self.per_step]]

    def names(self, step: int) -> str:
        """Return the names of the examples in step `step`, for a message."""
        chosen = sorted(self.indices(step))
        more = f" and {len(chosen) - NAMES_SHOWN} more" if len(chosen) > NAMES_SHOWN else ""
        return ", ".join(self.name(k) for k in chosen[:NAMES_SHOWN]) + more


def epochs_of(
    run: Run, examples: int, per_step: int, epochs: float, name: Callable[[int], str] = numbered, mixture: SourceMixture | None = None
) -> Epochs:
    """Return the order of a stage's examples, drawn from the run's seed; `name` gives their names in messages."""
    return Epochs(examples, per_step, epochs, derive_seed(run.seed, run.stage, "order"), name, mixture)


def warn_of_few_steps(run: Run, epochs: Epochs, judgments: int) -> None:
    """Warn where a few prompts hold many judgments, so that an epoch has few steps; steps are counted in prompts."""
    if not run.is_resumed and epochs.steps_per_epoch <= FEW_STEPS and judgments >= 2 * FEW_STEPS * epochs.per_step:
        text = (
            f"{epochs.examples} prompts hold {judgments} judgments, and a step learns from {epochs.per_step} prompts with all their "
            f"judgments: an epoch has {epochs.steps_per_epoch} steps. Lower prompts_per_step, or raise epochs or the learning rate"
        )
        run.warn(0, {"steps": text}, {})


def measured(batches: Iterable[E], loss: Callable[[E], Sums]) -> HeldOutMeasurement:
    """Return the loss per unit over all of `batches`, without gradient; beside it the accuracy, and both of each source."""
    totals = Totals()
    with torch.no_grad():
        for sums in shared(batches, loss):
            totals.add(sums)
    found = statistics(totals)
    others = {name: value for name, value in found.items() if name.startswith(("accuracy/", "accuracy_of_", "loss_of_"))}
    return HeldOutMeasurement(found.get("loss/mean", math.nan), others=others)


def fit(
    run: Tracker,
    learner: Learner,
    epochs: Epochs,
    batches: Callable[[list[int]], Iterable[E]],
    loss: Callable[[E], Sums],
    held_out: HeldOut | None = None,
    examples: Examples | None = None,
) -> dict[str, float]:
    """Train to the end of the epochs, or resume where training was cut off, and return the last step's metrics.

    `batches` turns a step's example numbers into micro-batches. Metrics are logged as `STAGE/...`. With `held_out` training may stop
    early, the modules end with the weights that did best on it, and the metrics returned say which step that was. What it measures before
    a step is logged with the step. `examples` show what the policy writes, at the end with the weights of the last step.

    Raises:
        TrainingError: a loss or gradient was not finite. The message names the step's examples, and the weights before it are saved.
    """
    numbers = learner.load(run.state / "learner")
    run.rewind(learner.steps_done)
    metrics = {} if numbers is None else cast("dict[str, float]", numbers["last"])
    search = Search(held_out, learner, run.state / "best", epochs.steps_per_epoch, epochs.steps)
    search.restore(numbers)

    def save() -> None:
        learner.save(run.state / "learner", {"last": metrics, "search": search.state})

    checkpoints = Checkpoints(run, save)
    with run.progress(epochs.steps, run.stage) as advance:
        advance(learner.steps_done)
        while learner.steps_done < epochs.steps and not search.is_over:
            step = learner.steps_done
            if examples is not None:
                examples.before(step)
            before = {} if held_out is None else held_out.before(step)
            try:
                metrics = {**learner.step(batches(epochs.indices(step)), loss), **search.look()}
            except NotFiniteError as error:
                save()
                raise TrainingError(
                    f"{error}: {epochs.names(step)}. The weights before this step are in {run.state / 'learner'}"
                ) from error
            run.log(step, {**{f"{run.stage}/{name}": value for name, value in metrics.items()}, **before})
            advance(1, f"loss {metrics['loss/mean']:.4f}")
            checkpoints.after_step()
        if run.keeps_state:
            save()
        if examples is not None:
            examples.write(learner.steps_done)
    return {**metrics, **search.finish()}

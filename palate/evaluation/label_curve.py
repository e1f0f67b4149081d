"""How many more labels are worth asking for: the accuracy of reward models that learn from shares of the judgments of stage `refresh`."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from palate.agreement import CurvePoint, LearningCurve, learning_curve
from palate.core import Advance, Preference, Tracker, derive_seed
from palate.data.jsonl import write_rows
from palate.evaluation.rater_report import CURVE
from palate.runs.run import Run

MIN_POINTS = 3
"""A curve needs at least this many numbers of labels."""


@dataclass(frozen=True)
class SideTracker:
    """A tracker for another model trained within a run. It keeps its checkpoints in its own folder and logs no metrics."""

    run: Run
    name: str

    @property
    def state(self) -> Path:
        """The folder for checkpoints."""
        path = self.run.state / self.name
        path.mkdir(exist_ok=True)
        return path

    @property
    def stage(self) -> str:
        """As the run's."""
        return self.run.stage

    @property
    def keeps_state(self) -> bool:
        """As the run does."""
        return self.run.keeps_state

    @property
    def stop_requested(self) -> bool:
        """As the run does."""
        return self.run.stop_requested

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Leave the run's metrics to its own model."""

    def warn(self, step: int, new: Mapping[str, str], active: Mapping[str, str]) -> None:
        """As the run does."""
        self.run.warn(step, new, active)

    def rewind(self, step: int) -> None:
        """Do nothing, as no metrics were written."""

    def progress(self, total: int, label: str, limits: Mapping[str, float] | None = None) -> AbstractContextManager[Advance]:
        """Show the run's progress, with this name."""
        return self.run.progress(total, f"{label}, {self.name}", limits)

    def check_stop(self) -> None:
        """As the run does."""
        self.run.check_stop()


def nested_shares(train: Sequence[Preference], shares: Sequence[float], seed: int) -> list[list[Preference]]:
    """Return the preferences of shares of the prompts, smallest first, each within the next. Shares without a prompt are left out."""
    prompts = list(dict.fromkeys(preference.prompt.conversation for preference in train))
    random.Random(seed).shuffle(prompts)
    sizes = sorted({round(share * len(prompts)) for share in shares} - {0, len(prompts)})
    chosen = [set(prompts[:size]) for size in sizes]
    return [[preference for preference in train if preference.prompt.conversation in inside] for inside in chosen]


def measured_curve(
    run: Run,
    train: Sequence[Preference],
    shares: Sequence[float],
    accuracy: Callable[[Tracker, Sequence[Preference]], tuple[float, int]],
    whole: tuple[float, int],
) -> LearningCurve | None:
    """Measure the learning curve over nested shares of `train` and write it to `curve.jsonl`. None with too few labels.

    Args:
        run: the run of stage refresh.
        train: the preferences that the whole model learned from.
        shares: shares of their prompts.
        accuracy: trains a model on preferences; returns its accuracy on held-out pairs and their number.
        whole: accuracy and pairs of the model that learned from all of them.
    """
    parts = nested_shares(train, shares, derive_seed(run.seed, "curve"))
    if len(parts) + 1 < MIN_POINTS:
        return None
    points = [(len(part), *accuracy(SideTracker(run, f"{len(part)}-labels"), part)) for part in parts]
    measured = tuple(CurvePoint(*point) for point in (*points, (len(train), *whole)))
    write_rows(run.directory / CURVE, map(asdict, measured))
    return learning_curve(measured, np.random.default_rng(derive_seed(run.seed, "forecast")))

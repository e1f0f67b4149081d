"""How many more labels: what stage `refresh` would have learned from shares of its judgments."""

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

LEAST = 3
"""Numbers of labels that a curve needs."""


@dataclass(frozen=True)
class Aside:
    """A tracker for training beside the run's own: with checkpoints in a folder of its own, and without metrics."""

    run: Run
    name: str

    @property
    def state(self) -> Path:
        """The folder for checkpoints."""
        path = self.run.state / self.name
        path.mkdir(exist_ok=True)
        return path

    @property
    def stop_requested(self) -> bool:
        """As of the run."""
        return self.run.stop_requested

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Nothing: the run's metrics are those of its own model."""

    def warn(self, step: int, new: Mapping[str, str], active: Mapping[str, str]) -> None:
        """As of the run."""
        self.run.warn(step, new, active)

    def rewind(self, step: int) -> None:
        """Nothing: no metrics were written."""

    def progress(self, total: int, label: str, limits: Mapping[str, float] | None = None) -> AbstractContextManager[Advance]:
        """As of the run, under this name."""
        return self.run.progress(total, f"{label}, {self.name}", limits)

    def check_stop(self) -> None:
        """As of the run."""
        self.run.check_stop()


def nested(train: Sequence[Preference], shares: Sequence[float], seed: int) -> list[list[Preference]]:
    """The preferences of shares of the prompts, the smallest share first, each within the next; shares without a prompt are left out."""
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
    """The learning curve over nested shares of `train`, written to `curve.jsonl`; None where there are too few labels for one.

    Args:
        run: whose run it is.
        train: what the whole model learned from.
        shares: of its prompts.
        accuracy: trains a model on preferences; its accuracy on held-out pairs, and how many these are.
        whole: the same of the model that learned from everything.
    """
    parts = nested(train, shares, derive_seed(run.seed, "curve"))
    if len(parts) + 1 < LEAST:
        return None
    found = [(len(part), *accuracy(Aside(run, f"{len(part)}-labels"), part)) for part in parts]
    measured = tuple(CurvePoint(*one) for one in (*found, (len(train), *whole)))
    write_rows(run.directory / CURVE, map(asdict, measured))
    return learning_curve(measured, np.random.default_rng(derive_seed(run.seed, "forecast")))

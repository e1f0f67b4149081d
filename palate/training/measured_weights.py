"""The weights of a run's last iterations on disk, so that the last ones that were measured within all limits can be put back."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from palate.training.learner import Learner

KEPT = 3
"""Weights within all limits that stay on disk: a measurement that is repeated may go back by one or two."""


class MeasuredWeights:
    """Weights by iteration: those with which iteration `n` began, before it learned.

    A measurement describes the weights that sampled. They are those of its own iteration, or with asynchronous sampling those of the
    iteration before. So weights wait on disk until they are measured, and the last ones within all limits are kept.
    """

    def __init__(self, learner: Learner, directory: Path) -> None:
        self._learner, self._directory = learner, directory
        self._needed = range(0)
        self.good: list[int] = []
        """The last weights that were measured within all limits, the latest last."""

    def save(self, iteration: int) -> None:
        """Write the current weights as those of `iteration`, and delete those that nothing can need any longer."""
        self._learner.save(self._directory / str(iteration), {})
        oldest = min(self.good, default=0)
        for path in self._directory.glob("*"):
            number = int(path.name) if path.name.isdigit() else iteration
            if number < oldest and number not in self._needed:
                shutil.rmtree(path, ignore_errors=True)

    def accept(self, iteration: int) -> None:
        """Record that the weights of `iteration` were measured within all limits."""
        self.good = [*(number for number in self.good if number < iteration), iteration][-KEPT:]

    def put_back(self, iteration: int | None = None) -> int | None:
        """Load the weights of `iteration`, by default the last good ones, and return their number; None where there are none."""
        number = max(self.good, default=None) if iteration is None else iteration
        if number is None or self._learner.load(self._directory / str(number)) is None:
            return None
        return number

    def before(self, iteration: int) -> int | None:
        """Return the number of the latest weights before those of `iteration` that are not known to be beyond a limit, if any."""
        if self.good and iteration - 1 > self.good[-1]:
            return iteration - 1
        return max((number for number in self.good if number < iteration), default=None)

    def state(self, iteration: int) -> list[int]:
        """Return what a checkpoint before `iteration` holds. A run that resumes from it needs the weights from the good ones on."""
        self._needed = range(min(self.good, default=0), iteration)
        return list(self.good)

    def restore(self, numbers: Mapping[str, object], iteration: int) -> None:
        """Continue from a checkpoint's numbers."""
        self.good = [int(str(number)) for number in cast("list[object]", numbers["good_weights"])]
        self.state(iteration)

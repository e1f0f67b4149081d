"""The roles that other folders play and take as arguments (see docs/architecture.md)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol


class Gold(Protocol):
    """A program that knows the truth of a world: scores by dimension in [0, 1]."""

    def __call__(self, prompt: str, completion: str, /, **fields: object) -> Mapping[str, float]:
        """Return the score of each dimension, by name."""
        ...


class Advance(Protocol):
    """Moves a progress bar on."""

    def __call__(self, n: int = 1, note: str = "") -> None:
        """Count `n` more units as done; `note` stands beside the bar."""
        ...


class Follower(Protocol):
    """Receives every row of metrics that a run logs."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take a row; raise nothing."""
        ...


class Tracker(Protocol):
    """Records what a stage does: metrics, progress and checkpoints. It also says whether the user asked the stage to stop."""

    @property
    def state(self) -> Path:
        """The folder for checkpoints."""
        ...

    @property
    def stage(self) -> str:
        """The kind of stage, with which the names of its metrics begin."""
        ...

    @property
    def keeps_state(self) -> bool:
        """Whether the last checkpoint is to stay when the stage is done."""
        ...

    @property
    def stop_requested(self) -> bool:
        """Whether Ctrl-C asked the stage to finish its step, save and stop."""
        ...

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics of a step, named `stage/thing/statistic`."""
        ...

    def warn(self, step: int, new: Mapping[str, str], active: Mapping[str, str]) -> None:
        """Record and show new warnings, by guard; `active` has every warning that holds."""
        ...

    def rewind(self, step: int) -> None:
        """Drop what was logged from `step` on, because those steps will be done again."""
        ...

    def progress(self, total: int, label: str, limits: Mapping[str, float] | None = None) -> AbstractContextManager[Advance]:
        """Show a progress bar over `total` units; `limits` stand beside the metrics of these names."""
        ...

    def check_stop(self) -> None:
        """Raise Interrupted when the user asked to stop. Call it after saving."""
        ...

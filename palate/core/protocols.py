"""The roles of the loop. Who plays them lives further down the package (see docs/architecture.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, runtime_checkable

from palate.core.nouns import Completion, Prompt, Sampling


@runtime_checkable
class Sampler(Protocol):
    """Draws completions from a policy."""

    def generate(self, prompts: Sequence[Prompt], n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        """`n` completions for each prompt, in the prompts' order; the same seed gives the same completions."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """Gives completions scores by name; higher is better."""

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Sequence[Completion]]) -> Mapping[str, list[list[float | None]]]:
        """For each name, a list per prompt of one score per completion; None where scoring failed."""
        ...


@runtime_checkable
class Gold(Protocol):
    """A program that knows the truth of a world: scores by dimension in [0, 1]."""

    def __call__(self, prompt: str, completion: str, **fields: object) -> Mapping[str, float]:
        """Axis name to score."""
        ...


class Advance(Protocol):
    """Moves a progress bar on."""

    def __call__(self, n: int = 1, note: str = "") -> None:
        """`n` more are done; `note` is shown beside the bar."""
        ...


class Follower(Protocol):
    """What is sent every row of metrics that a run logs."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Takes a row; raises nothing."""
        ...


class Tracker(Protocol):
    """Where a stage records what it does: metrics, progress, checkpoints, and whether somebody asked it to stop."""

    @property
    def state(self) -> Path:
        """The folder for checkpoints."""
        ...

    @property
    def stop_requested(self) -> bool:
        """Whether Ctrl-C asked the stage to finish its step, save and stop."""
        ...

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Records the metrics of a step, named `stage/thing/statistic`."""
        ...

    def warn(self, step: int, new: Mapping[str, str], active: Mapping[str, str]) -> None:
        """Records and shows what guards say for the first time, by guard; `active` is all they still hold to."""
        ...

    def rewind(self, step: int) -> None:
        """Drops what was logged from `step` on: those steps will be done again."""
        ...

    def progress(self, total: int, label: str, limits: Mapping[str, float] | None = None) -> AbstractContextManager[Advance]:
        """A progress bar over `total` units; `limits` are shown beside the metrics of these names."""
        ...

    def check_stop(self) -> None:
        """Raises Interrupted when somebody asked to stop; call it after saving."""
        ...

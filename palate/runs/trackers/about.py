"""What a tracker is told of a run, and what it must do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class About:
    """What a tracker is told of a run.

    Attributes:
        id: the same for a resumed run, another one for a run made afresh.
        project: what the run belongs to: the name of its folder of runs.
        name: its directory's name.
        directory: where its files lie.
        config: the resolved settings as JSON values.
    """

    id: str
    project: str
    name: str
    directory: Path
    config: Mapping[str, object]


class Sink(Protocol):
    """A place outside the run directory that metrics go to. Made from an `About`; opens the run there, or goes on in it."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Sends a row of metrics. Steps come in order and each comes once."""
        ...

    def close(self, *, is_done: bool) -> None:
        """Sends what is left; `is_done` tells whether the run finished."""
        ...

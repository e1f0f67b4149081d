"""The trackers of a run: they open at its first row, receive each row once, and cannot stop the run."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from palate.core import ConfigError

Rows = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class About:
    """What a tracker knows about a run.

    Attributes:
        id: stays when the run resumes, and changes when it starts afresh.
        project: the name of its folder of runs.
        name: the name of its directory.
        directory: its directory.
        config: the resolved settings as JSON values.
    """

    id: str
    project: str
    name: str
    directory: Path
    config: Mapping[str, object]


class Sink(Protocol):
    """A place outside the run directory that receives metrics. Its constructor takes an `About` and opens or continues the run there."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Send a row of metrics. Each step comes once, and in order."""
        ...

    def close(self, *, is_done: bool) -> None:
        """Send what is left; `is_done` says whether the run finished."""
        ...


@dataclass(frozen=True)
class TrackerEntry:
    """Where to find a tracker's class.

    Attributes:
        target: `module:Class`.
        package: the package that it imports.
        install: the name under which that package is installed.
    """

    target: str
    package: str
    install: str


TRACKERS: Mapping[str, TrackerEntry] = {
    "tensorboard": TrackerEntry("palate.runs.trackers.tensorboard:TensorBoard", "tensorboard", "tensorboard"),
    "wandb": TrackerEntry("palate.runs.trackers.wandb:Wandb", "wandb", "wandb"),
    "mlflow": TrackerEntry("palate.runs.trackers.mlflow:MLflow", "mlflow", "mlflow-skinny"),
    "trackio": TrackerEntry("palate.runs.trackers.trackio:Trackio", "trackio", "trackio"),
}


def tracker_names(value: object) -> tuple[str, ...]:
    """Return the names in a setting: a list of words, or words with commas between them. None gives no names.

    Raises:
        ConfigError: the setting is something else, or names an unknown tracker.
    """
    words = [word.strip() for word in value.split(",")] if isinstance(value, str) else [] if value is None else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ConfigError(f"track must name trackers ({', '.join(TRACKERS)}), got {value!r}.")
    names = tuple(dict.fromkeys(word for word in words if word not in ("", "none")))
    for name in names:
        if name not in TRACKERS:
            raise ConfigError(f"there is no tracker {name!r}. Known: {', '.join(TRACKERS)}.")
    return names


def require_trackers(names: Sequence[str]) -> None:
    """Check that all of these trackers are installed.

    Raises:
        ConfigError: one is not installed.
    """
    for name in names:
        entry = TRACKERS[name]
        if importlib.util.find_spec(entry.package) is None:
            raise ConfigError(f"track: {name} needs {entry.install}, which is not installed. Install palate[{name}], or leave {name} out.")


class Followers:
    """The trackers of one run.

    A resumed run does some steps again that trackers already have. The file `sent` in the run's state has the last step of each
    tracker, so that no row is sent twice. A tracker that joins later receives what was logged without it.
    """

    def __init__(self, names: Sequence[str], about: About, logged: Callable[[], Rows], sent: Path) -> None:
        self._about, self._logged, self._path = about, logged, sent
        self._waiting, self._open = list(names), dict[str, Sink]()
        known = cast("dict[str, int]", json.loads(sent.read_text())) if sent.is_file() else {}
        last = max((int(row["step"]) for row in logged()), default=-1)
        self._sent = {name: max(step, last) for name, step in known.items()}
        self._note()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Send the row to every tracker that works. One that fails is left out from then on, with a warning."""
        for name in list(self._waiting):
            self._waiting.remove(name)
            self._try(name, lambda name=name: self._join(name, step))  # type: ignore[misc]
        for name, tracker in list(self._open.items()):
            if step > self._sent[name]:
                self._try(name, lambda tracker=tracker: tracker.log(step, metrics))  # type: ignore[misc]
                self._sent[name] = step

    def close(self, *, is_done: bool) -> None:
        """Close every tracker, so that it has everything that was sent."""
        for name, tracker in list(self._open.items()):
            self._try(name, lambda tracker=tracker: tracker.close(is_done=is_done))  # type: ignore[misc]

    def _join(self, name: str, step: int) -> None:
        module, cls = TRACKERS[name].target.split(":")
        tracker = cast("Sink", vars(importlib.import_module(module))[cls](self._about))
        if name not in self._sent:
            for row in self._logged():
                if row["step"] < step:
                    tracker.log(int(row["step"]), {key: value for key, value in row.items() if key != "step"})
            self._sent[name] = step - 1
            self._note()
        self._open[name] = tracker

    def _try(self, name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 (whatever a tracker raises, the run goes on)
            self._open.pop(name, None)
            sys.stderr.write(f"  {name} failed and is left out from now on: {type(error).__name__}: {error}\n")

    def _note(self) -> None:
        if self._sent:
            self._path.write_text(json.dumps(self._sent))

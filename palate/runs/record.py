"""What a run is (`RunPlan`), what is known of one on disk (`RunRecord`), and where it came from (`lineage`)."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

from palate import __version__
from palate.core import RunError
from palate.runs.digests import DIGEST_LENGTH, DigestCache
from palate.data.files import read_json, write_json

Status = Literal["running", "done", "failed", "interrupted"]
RECORD = "run.json"


@dataclass(frozen=True)
class Parent:
    """One input of a run.

    Attributes:
        field: the config field that names it, dotted (`data`, `scorers.helpful`, `files.0`).
        path: where it lies; relative to the run's own directory when both lie in the same folder of runs.
        key: digest of its content; for something inside a run directory that run's key and the way inside it.
    """

    field: str
    path: str
    key: str


@dataclass(frozen=True)
class RunPlan:
    """A run before it is started; `key` names it by content.

    Attributes:
        name: name of the stage in its pipeline; the directory is called `<name>-<key>`.
        stage: kind of stage (`sft`).
        config: the resolved configuration, as JSON values.
        seed: seed of everything random in the run.
        parents: its inputs.
        expect: `refused` when the stage must stop itself with a TrainingError (a control).
    """

    name: str
    stage: str
    config: Mapping[str, object] = field(default_factory=dict)
    seed: int = 0
    parents: tuple[Parent, ...] = ()
    expect: Literal["done", "refused"] = "done"

    @cached_property
    def identity(self) -> dict[str, object]:
        """What the key is made of: inputs stand there by content, not by path. The name is not part of it."""
        config = cast("dict[str, Any]", copy.deepcopy(dict(self.config)))
        for parent in self.parents:
            *way, last = parent.field.split(".")
            target: Any = config
            for part in way:
                target = target[int(part)] if isinstance(target, list) else target[part]
            target[int(last) if isinstance(target, list) else last] = parent.key
        return {"stage": self.stage, "config": config, "seed": self.seed, "expect": self.expect, "version": __version__}

    @cached_property
    def key(self) -> str:
        """First 12 hex digits of the SHA-256 of stage, config (inputs by content), seed, expectation and palate version."""
        text = json.dumps(self.identity, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]

    def directory(self, root: Path) -> Path:
        """Where the run lives below `root`."""
        return root / f"{self.name}-{self.key}"


@dataclass(frozen=True)
class RunRecord:
    """The content of a `run.json`."""

    name: str
    stage: str
    key: str
    status: Status
    seed: int
    identity: Mapping[str, object]
    config: Mapping[str, object]
    parents: tuple[Parent, ...]
    code: Mapping[str, str | None]
    versions: Mapping[str, str | None]
    started: str
    finished: str | None = None
    seconds: float = 0.0
    dropped: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    error: str | None = None

    def write(self, directory: Path) -> None:
        """Nothing; `run.json` in `directory` holds the record, replaced atomically."""
        write_json(directory / RECORD, asdict(self))


def read_record(directory: Path) -> RunRecord | None:
    """The record of the run in `directory`; None when it holds no `run.json`.

    Raises:
        RunError: there is a `run.json`, but not of a run of this or an older version of Palate.
    """
    path = directory / RECORD
    if not path.is_file():
        return None
    value = cast("dict[str, Any]", read_json(path))
    try:
        value["parents"] = tuple(Parent(**parent) for parent in value["parents"])
        return RunRecord(**value)
    except (TypeError, KeyError) as error:
        raise RunError(f"{path} is not the record of a run ({error}). Delete the directory, or choose another with --out.") from error


def input_key(path: Path, cache: DigestCache) -> str:
    """What the key of a run holds for an input at `path`: a run's key (and the way inside), or a digest of the content.

    Raises:
        RunError: nothing is there, or it lies in a run that is not done.
    """
    for directory in (path, *path.parents):
        record = read_record(directory)
        if record is None:
            continue
        if record.status != "done":
            raise RunError(
                f"{path} lies in the run {directory}, whose status is {record.status!r}. "
                "Finish that run first with the command that started it, or copy what you need out of it."
            )
        if not path.exists():
            raise RunError(f"{path}: the run {directory} has no {path.relative_to(directory)}. Correct the path.")
        inside = path.relative_to(directory).as_posix()
        return record.key if inside == "." else f"{record.key}/{inside}"
    return cache.content(path)


def list_runs(root: Path) -> list[tuple[Path, RunRecord]]:
    """Runs at `root`, directly below it, or one folder deeper (a pipeline's), in the order they were started."""
    found = []
    for pattern in (RECORD, f"*/{RECORD}", f"*/*/{RECORD}"):
        for path in root.glob(pattern):
            record = read_record(path.parent)
            if record is not None:
                found.append((path.parent, record))
    return sorted(found, key=lambda item: (item[1].started, str(item[0])))


def lineage(directory: Path, depth: int = 0) -> Iterator[tuple[int, str, Path, RunRecord | None]]:
    """(depth, field, path, record) of the run in `directory` and of all it came from, depth first.

    The record is None for an input that is no run's (a file, a model directory, a hub name).
    """
    record = read_record(directory)
    if record is None:
        raise RunError(f"{directory} holds no {RECORD}: it is not a run directory. `palate runs` lists those there are.")
    if depth == 0:
        yield 0, "", directory, record
    for parent in record.parents:
        path = (directory / parent.path).resolve() if parent.path.startswith("..") else Path(parent.path)
        home = next((place for place in (path, *path.parents) if (place / RECORD).is_file()), None)
        yield depth + 1, parent.field, path, None if home is None else read_record(home)
        if home is not None:
            yield from lineage(home, depth + 1)

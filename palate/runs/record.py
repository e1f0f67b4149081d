"""What a run will be (`RunPlan`), its record on disk (`RunRecord`), and what it was made from (`lineage`)."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

from palate import __version__
from palate.config.artifacts import RUN_RECORD, refuse_retired
from palate.core import RunError
from palate.core.process import AUTO, Shard
from palate.data.exclusions import Exclusions
from palate.data.files import read_json, write_json
from palate.runs.digests import DIGEST_LENGTH, DigestCache

Status = Literal["running", "done", "failed", "interrupted"]
RECORD = RUN_RECORD
FORMAT = 2
"""The form of `run.json`. Records without a number come from before many settings were renamed."""


@dataclass(frozen=True)
class Parent:
    """One input of a run.

    Attributes:
        field: the dotted setting that names it (`data`, `scorers.helpful`, `files.0`).
        path: where it lies, relative to the run's own directory when both lie in the same folder of runs.
        key: a digest of its content; for something inside a run directory, the run's key and the path inside.
    """

    field: str
    path: str
    key: str


@dataclass(frozen=True)
class RunPlan:
    """A run before it starts; `key` identifies it by content.

    Attributes:
        name: name of the stage in its pipeline; the directory is called `<name>-<key>`.
        stage: kind of stage (`sft`).
        config: the resolved configuration, as JSON values.
        seed: seed of everything random in the run.
        parents: its inputs.
        expect: `refused` for a control, which must stop itself with a TrainingError.
        outside: dotted names of settings that change no result, such as what the run watches; they are not part of the key.
        device: what its models compute on, as the user names it. Devices differ by rounding alone, so it is not part of the key.
        shard: which weights ranks share out. That changes no result, so it is not part of the key.
        excluded: what the run leaves out of everything that it reads.
        keeps_state: whether its last checkpoint stays when it is done. That changes no result, so it is not part of the key.
    """

    name: str
    stage: str
    config: Mapping[str, object] = field(default_factory=dict)
    seed: int = 0
    parents: tuple[Parent, ...] = ()
    expect: Literal["done", "refused"] = "done"
    outside: tuple[str, ...] = ()
    device: str = AUTO
    shard: Shard = field(default_factory=Shard)
    excluded: Exclusions = field(default_factory=Exclusions)
    keeps_state: bool = False

    @cached_property
    def identity(self) -> dict[str, object]:
        """What the key is made of: inputs by content, not by path. The name is not part of it."""
        config = cast("dict[str, Any]", copy.deepcopy(dict(self.config)))
        for name in self.outside:
            holder, last = _holder(config, name)
            del holder[last]
        for parent in self.parents:
            holder, last = _holder(config, parent.field)
            holder[last] = parent.key
        left_out: dict[str, object] = {"excluded": self.excluded.plain()} if self.excluded else {}
        return {"stage": self.stage, "config": config, "seed": self.seed, "expect": self.expect, "version": __version__} | left_out

    @cached_property
    def key(self) -> str:
        """The first 12 hex digits of the SHA-256 of stage, config (inputs by content), seed, expectation, version, and exclusions."""
        text = json.dumps(self.identity, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]

    def directory(self, root: Path) -> Path:
        """Where the run lives below `root`."""
        return root / f"{self.name}-{self.key}"


def _holder(config: Any, field: str) -> tuple[Any, Any]:
    """Return the mapping or list that holds a dotted setting, and the name or number of the setting in it."""
    *outer, last = field.split(".")
    for part in outer:
        config = config[int(part)] if isinstance(config, list) else config[part]
    return config, int(last) if isinstance(config, list) else last


def setting_at(config: Any, field: str) -> object:
    """Return the value of a dotted setting in a configuration; None where there is none."""
    try:
        holder, last = _holder(config, field)
        return cast("object", holder[last])
    except (LookupError, TypeError, ValueError):
        return None


@dataclass(frozen=True)
class RunRecord:
    """The content of a `run.json`; `format` is `FORMAT` in every record that this version writes.

    `device` is what models were loaded on, None where the run loaded none. `dtype` is what `dtype: auto` meant there, None where the
    settings name a type.
    """

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
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    error: str | None = None
    device: str | None = None
    dtype: str | None = None
    keeps_state: bool = False
    format: int = FORMAT

    def write(self, directory: Path) -> None:
        """Write the record to `run.json` in `directory`, replacing it atomically."""
        write_json(directory / RECORD, asdict(self))


def read_record(directory: Path) -> RunRecord | None:
    """Return the record of the run in `directory`; None when it holds no `run.json`.

    Raises:
        RunError: the `run.json` is not a record, or a version of Palate with other names of settings wrote it.
    """
    path = directory / RECORD
    if not path.is_file():
        return None
    value = cast("dict[str, Any]", read_json(path))
    if is_old(value):
        raise RunError(old_text(directory))
    try:
        value["parents"] = tuple(Parent(**parent) for parent in value["parents"])
        return RunRecord(**value)
    except (TypeError, KeyError) as error:
        raise RunError(f"{path} is not the record of a run ({error}). Delete the directory, or choose another with --out.") from error


def differences(old: object, new: object) -> list[str]:
    """Return where two identities differ, as `field: old there, new here`."""
    return [f"{at}: {json.dumps(there)} there, {json.dumps(here)} here" for at, (there, here) in changes(old, new).items()]


def changes(old: object, new: object, at: str = "") -> dict[str, tuple[object, object]]:
    """Return the values that differ between two identities, by their dotted settings."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        found: dict[str, tuple[object, object]] = {}
        for name in dict.fromkeys((*old, *new)):
            place = f"{at}.{name}" if at and at != "config" else str(name)
            found |= changes(old.get(name), new.get(name), place)
        return found
    return {} if old == new else {at: (old, new)}


def is_old(value: object) -> bool:
    """Whether the content of a `run.json` is a record in another form than `FORMAT`."""
    return isinstance(value, dict) and {"name", "stage", "key", "identity"} <= value.keys() and value.get("format") != FORMAT


def old_text(directory: Path) -> str:
    """Return what to tell the user about a run that an older Palate made."""
    return (
        f"{directory} was made by an older Palate, whose settings have other names. "
        "Run the pipeline again with another --runs, or with --fresh to replace it."
    )


def old_runs(root: Path) -> dict[Path, str]:
    """Return the runs at `root`, directly below it or one folder deeper that an older Palate made, each with its stage's name."""
    values = {path.parent: read_json(path) for path in _records(root)}
    return {directory: str(value["name"]) for directory, value in values.items() if isinstance(value, dict) and is_old(value)}


def input_key(path: Path, cache: DigestCache) -> str:
    """Return what identifies an input at `path`: the key of its run and the path inside, or a digest of the content.

    Raises:
        RunError: there is nothing at `path`, or it lies in a run that is not done.
    """
    for directory in (path, *path.parents):
        record = read_record(directory)
        if record is None:
            continue
        refuse_retired(directory)
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
    """Return the runs at `root`, directly below it, or one folder deeper (a pipeline's), in the order in which they started.

    The list leaves out what an older Palate made; `old_runs` has it.
    """
    directories = [path.parent for path in _records(root) if not is_old(read_json(path))]
    records = [(directory, record) for directory in directories if (record := read_record(directory)) is not None]
    return sorted(records, key=lambda item: (item[1].started, str(item[0])))


def _records(root: Path) -> list[Path]:
    return [path for pattern in (RECORD, f"*/{RECORD}", f"*/*/{RECORD}") for path in root.glob(pattern)]


def parent_path(directory: Path, parent: Parent) -> Path:
    """Return where an input of the run in `directory` lies."""
    return (directory / parent.path).resolve() if parent.path.startswith("..") else Path(parent.path)


def run_of(path: Path) -> Path | None:
    """Return the directory of the run that `path` is, or lies in; None where it lies in none."""
    return next((place for place in (path, *path.parents) if (place / RECORD).is_file()), None)


def ancestry(directory: Path) -> dict[str, tuple[Path, RunRecord]]:
    """Return the run in `directory` and every run that it was made from, each once, by key: directory and record, oldest first.

    A run that several others were made from is read once, while `lineage` follows every way to it.

    Raises:
        RunError: the directory holds no run.
    """
    found: dict[str, tuple[Path, RunRecord]] = {}
    waiting, seen = [directory], {directory}
    while waiting:
        home = waiting.pop()
        record = read_record(home)
        if record is None:
            raise RunError(_no_run(home))
        found.setdefault(record.key, (home, record))
        for place in [run_of(parent_path(home, parent)) for parent in record.parents]:
            if place is not None and place not in seen:
                seen.add(place)
                waiting.append(place)
    return dict(sorted(found.items(), key=lambda item: (item[1][1].started, item[0])))


def missing_runs(directory: Path, record: RunRecord) -> list[str]:
    """Return the names of inputs of the run in `directory` that are no longer there and were runs, or lay in one.

    An absolute path without a suffix counts as a run or a model directory; one with a suffix is a file from outside. A name on a hub is
    neither.
    """
    paths = [parent_path(directory, parent) for parent in record.parents]
    gone = [path for path in paths if path.is_absolute() and run_of(path) is None and not path.exists()]
    near = directory.resolve().parent
    return list(dict.fromkeys(path.name for path in gone if near in path.parents or not path.suffix))


def _no_run(directory: Path) -> str:
    return f"{directory} holds no {RECORD}: it is not a run directory. `palate runs` lists the runs."


def lineage(directory: Path, depth: int = 0) -> Iterator[tuple[int, str, Path, RunRecord | None]]:
    """Yield (depth, field, path, record) of the run in `directory` and of everything that it was made from, depth first.

    The record is None for an input that no run made: a file, a model directory, a name on a hub.
    """
    record = read_record(directory)
    if record is None:
        raise RunError(_no_run(directory))
    if depth == 0:
        yield 0, "", directory, record
    for parent in record.parents:
        path = parent_path(directory, parent)
        home = run_of(path)
        yield depth + 1, parent.field, path, None if home is None else read_record(home)
        if home is not None:
            yield from lineage(home, depth + 1)

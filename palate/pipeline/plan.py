"""What a pipeline will do: every stage's configuration with its inputs found, its key and its directory, before anything runs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

from palate.config.read import dump_config, map_inputs, read_config
from palate.config.settings import Settings, Way, nearest, parse_word, read_yaml
from palate.config.types import InputMark
from palate.core import ConfigError, PalateError
from palate.pipeline.table import Stage, Stages, find_stage
from palate.runs.digests import DigestCache
from palate.runs.record import Parent, RunPlan, input_key
from palate.runs.trackers import tracker_names

TOP = ("name", "seed", "track", "inputs", "stages")
BESIDE = ("stage", "seed", "expect")
REFERENCE = re.compile(r"\$([\w-]+)(?:/(.*))?")
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Pipeline:
    """A pipeline file with the command line's assignments applied.

    Attributes:
        name: its name; runs go to `runs/<name>`.
        seed: seed of every stage that names none.
        inputs: outside paths by name; None where the command line must give one.
        settings: everything, with places.
        stages: stage names in order.
        track: trackers that metrics are sent to, beside `metrics.jsonl`.
    """

    name: str
    seed: int
    inputs: Mapping[str, str | None]
    settings: Settings
    stages: tuple[str, ...]
    track: tuple[str, ...] = ()


@dataclass(frozen=True)
class Planned:
    """A stage ready to run.

    Attributes:
        plan: what its run is.
        directory: where its run lives.
        stage: its configuration, with inputs as paths.
        needs: paths inside earlier stages' runs, by the stage they come from.
    """

    plan: RunPlan
    directory: Path
    stage: Stage
    needs: tuple[tuple[str, Path], ...] = ()


def read_pipeline(path: Path, assignments: Sequence[str] = ()) -> Pipeline:
    """The pipeline in a YAML file, with `name=value` words applied.

    Args:
        path: the file.
        assignments: `input=PATH`, `seed=1`, `track=tensorboard`, or `stage.field=value` (fields may go deeper: `online.kl.control.coef=0`).

    Raises:
        ConfigError: an unknown or malformed key, with file and line.
    """
    settings = read_yaml(path)
    for name in settings.values:
        if name not in TOP:
            raise ConfigError(f"{settings.place((str(name),))}: a pipeline has no {name!r}. {nearest(str(name), TOP)}")
    inputs, stages = (_mapping(settings, name) for name in ("inputs", "stages"))
    for name in stages:
        if name in inputs or name in TOP or not re.fullmatch(r"[\w-]+", name):
            raise ConfigError(
                f"{settings.place(('stages', name))}: a stage cannot be called {name!r}: the name is taken, or is not a word. Rename it."
            )
    for word in assignments:
        settings = _assign(settings, word, inputs, stages)
    given: dict[str, str | None] = {}
    for name in inputs:
        value = settings.get(("inputs", name))
        if value is None or isinstance(value, str):
            given[name] = value
        else:
            raise ConfigError(f"{settings.place(('inputs', name))}: the input {name} must be a path, got {value!r}.")
    seed = settings.get(("seed",))
    title = str(settings.get(("name",)) or path.stem)
    return Pipeline(title, _seed(settings, ("seed",), 0 if seed is None else seed), given, settings, tuple(stages), _track(settings))


def _track(settings: Settings) -> tuple[str, ...]:
    """The trackers named: `track: [tensorboard, wandb]`, or the words between commas."""
    value = settings.get(("track",))
    try:
        return tracker_names(value)
    except ConfigError as error:
        raise ConfigError(f"{settings.place(('track',))}: {error}") from error


def _mapping(settings: Settings, name: str) -> Mapping[str, object]:
    value = settings.get((name,))
    if value is None and name == "inputs":
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ConfigError(f"{settings.place((name,))}: {name} must hold `name: ...` lines, got {value!r}.")
    return cast("Mapping[str, object]", value)


def _seed(settings: Settings, way: Way, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(f"{settings.place(way)}: a seed is a whole number from 0 on, got {value!r}.")
    return value


def _assign(settings: Settings, word: str, inputs: Mapping[str, object], stages: Mapping[str, object]) -> Settings:
    """The settings with one `name=value` of the command line applied."""
    way, equals, value = word.partition("=")
    if not equals:
        raise ConfigError(f"command line: {word!r} is not of the form name=value.")
    place = f"command line ({word})"
    first, *rest = way.split(".")
    if not rest and first in inputs:
        return settings.put(("inputs", first), value, place)
    if not rest and first in ("seed", "name", "track"):
        return settings.put((first,), parse_word(value) if first == "seed" else value, place)
    if rest and first in stages:
        return settings.put(("stages", first, *rest), parse_word(value), place)
    if first in stages:
        raise ConfigError(f"{place}: {first} is a stage; set one of its fields: {first}.field=value.")
    raise ConfigError(f"{place}: nothing is called {first!r}. {nearest(first, (*inputs, *stages, 'seed', 'track'))}")


@dataclass
class Planner:
    """Plans stages in order, so that each can refer to those before.

    Attributes:
        root: folder of runs.
        cache: digests of large files.
        inputs: outside paths by name.
        order: names of all stages, for the message about one that comes too late.
    """

    root: Path
    cache: DigestCache
    inputs: Mapping[str, str | None] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    _done: dict[str, Planned] = field(default_factory=dict)

    def add(self, plan: RunPlan, stage: Stage, settings: Settings, way: Way = (), out: Path | None = None) -> Planned:
        """The stage with its inputs found, checked, keyed and given a directory.

        Args:
            plan: name, kind, seed and expectation; config and parents are filled in here.
            stage: its configuration as written.
            settings: where it was read from, for messages.
            way: where in the settings it begins.
            out: its directory; by default `root/<name>-<key>`.

        Raises:
            ConfigError: an input that is not there, or settings that contradict each other.
        """
        found: list[tuple[str, str, str]] = []
        needs: list[tuple[str, Path]] = []

        def find(name: str, value: str, mark: InputMark) -> str:
            at = settings.place((*way, *name.split(".")))
            path, key = self._input(f"{at}: {plan.name}.{name}", value, mark, needs)
            found.append((name, path, key))
            return path

        resolved = map_inputs(stage, find)
        try:
            resolved.check()
        except ConfigError as error:
            raise ConfigError(f"{settings.place(way)}: {plan.name}: {error}") from error
        config = cast("dict[str, object]", dump_config(resolved))
        bare = RunPlan(plan.name, plan.stage, config, plan.seed, tuple(Parent(*item) for item in found), plan.expect)
        directory = bare.directory(self.root) if out is None else out
        parents = tuple(Parent(name, _relative(path, directory, key), key) for name, path, key in found)
        planned = Planned(RunPlan(plan.name, plan.stage, config, plan.seed, parents, plan.expect), directory, resolved, tuple(needs))
        self._done[plan.name] = planned
        return planned

    def _input(self, at: str, value: str, mark: InputMark, needs: list[tuple[str, Path]]) -> tuple[str, str]:
        """(path, key) of an input as written."""
        reference = REFERENCE.fullmatch(value)
        if reference is not None:
            name, inside = reference.group(1), reference.group(2) or ""
            if name in self._done:
                earlier = self._done[name]
                needs.append((name, earlier.directory / inside))
                return str(earlier.directory / inside), "/".join(part for part in (earlier.plan.key, inside.rstrip("/")) if part)
            value = self._outside(at, name, inside)
        path = Path(value).expanduser()
        if path.exists():
            try:
                return str(path), input_key(path.absolute(), self.cache)
            except PalateError as error:
                raise type(error)(f"{at}: {error}") from error
        if mark.hub and HUB_NAME.fullmatch(value):
            return value, f"hub:{value}"
        raise ConfigError(f"{at}: nothing is at {value}. Correct the path{' or the name of the model' if mark.hub else ''}.")

    def _outside(self, at: str, name: str, inside: str) -> str:
        if name not in self.inputs:
            if name in self.order:
                raise ConfigError(f"{at}: ${name} comes later (or is this stage itself). Refer to an earlier stage, or change the order.")
            raise ConfigError(f"{at}: nothing is called ${name}. {nearest(name, (*self._done, *self.inputs))}")
        value = self.inputs[name]
        if value is None:
            raise ConfigError(f"{at}: the input {name} has no value. Add {name}=PATH to the command.")
        return str(Path(value) / inside) if inside else value


def _relative(path: str, directory: Path, key: str) -> str:
    """How a parent's path is recorded: relative to the run when both lie in one folder of runs, else absolute."""
    if key.startswith("hub:"):
        return path
    whole, home = Path(path).absolute(), directory.absolute()
    return os.path.relpath(whole, home) if home.parent in whole.parents else str(whole)


def plan_pipeline(pipeline: Pipeline, root: Path, stages: Stages) -> tuple[Planned, ...]:
    """Every stage of the pipeline, checked and keyed, in order. Loads the stages' modules, no model.

    Raises:
        ConfigError: whatever is wrong, with file and line, before anything runs.
    """
    planner = Planner(root, DigestCache(root / ".digests.json"), pipeline.inputs, pipeline.stages)
    planned = []
    for name in pipeline.stages:
        way = ("stages", name)
        settings = pipeline.settings
        entry = settings.get(way)
        if not isinstance(entry, Mapping) or not isinstance(entry.get("stage"), str):
            raise ConfigError(f"{settings.place(way)}: {name} must hold `stage: KIND` and its settings. {nearest(name, stages)}")
        kind = cast("str", entry["stage"])
        cls = find_stage(stages, kind, settings.place((*way, "stage")))
        expect = entry.get("expect", "done")
        if expect not in ("done", "refused"):
            raise ConfigError(f"{settings.place((*way, 'expect'))}: expect must be done or refused, got {expect!r}.")
        seed = _seed(settings, (*way, "seed"), entry.get("seed", pipeline.seed))
        config = read_config(cls, settings, way, ignored=BESIDE)
        bare = RunPlan(name, kind, seed=seed, expect=cast("Literal['done', 'refused']", expect))
        planned.append(planner.add(bare, config, settings, way))
    return tuple(planned)

"""Planning a pipeline before anything runs: each stage's configuration with its inputs found, its key and its directory."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, cast

from palate.config.artifacts import is_hub_name
from palate.config.function_source import FunctionSource, source_of
from palate.config.own_members import is_import_path
from palate.config.read import dump_config, map_inputs, read_config
from palate.config.settings import Keys, Settings, collected, nearest, parse_word, raise_collected, read_yaml
from palate.config.types import InputMark, fields_outside_key
from palate.core import ConfigError, PalateError
from palate.core.process import AUTO, Shard
from palate.data.exclusions import read_exclusions
from palate.pipeline.beside_settings import device_at, extend_at, kept_at, seed_at, shard_at
from palate.pipeline.program_sources import program_sources
from palate.pipeline.table import Stage, Stages, find_stage
from palate.runs.digests import DigestCache
from palate.runs.extension import EXTEND
from palate.runs.record import Parent, RunPlan, input_key
from palate.runs.retirement import leaving_out
from palate.runs.trackers import tracker_names

TOP = ("name", "seed", "device", "shard", "track", "inputs", "stages")
BESIDE = ("stage", "seed", "device", "shard", "expect", "extend", "keep_state")
REFERENCE = re.compile(r"\$([\w-]+)(?:/(.*))?")


@dataclass(frozen=True)
class Pipeline:
    """A pipeline file with the command line's assignments applied.

    Attributes:
        name: its name; its runs go to `runs/<name>`.
        seed: the seed of every stage that does not give one.
        device: the device of every stage that does not give one.
        shard: which weights ranks share out in every stage that does not say it.
        inputs: outside paths by name; None where the command line must give the path.
        settings: everything in the file, with places.
        stages: stage names in order.
        track: trackers that receive metrics, beside `metrics.jsonl`.
    """

    name: str
    seed: int
    inputs: Mapping[str, str | None]
    settings: Settings
    stages: tuple[str, ...]
    track: tuple[str, ...] = ()
    device: str = AUTO
    shard: Shard = field(default_factory=Shard)


@dataclass(frozen=True)
class Planned:
    """A stage that is ready to run.

    Attributes:
        plan: what its run will be.
        directory: where its run lives.
        stage: its configuration, with inputs as paths.
        needs: paths inside earlier stages' runs, by the stage they come from.
        functions: the user's functions as they were when the stage was planned, by the setting that names them.
    """

    plan: RunPlan
    directory: Path
    stage: Stage
    needs: tuple[tuple[str, Path], ...] = ()
    functions: Mapping[str, tuple[FunctionSource, ...]] = field(default_factory=dict)


def read_pipeline(path: Path, assignments: Sequence[str] = ()) -> Pipeline:
    """Read the pipeline in a YAML file and apply `name=value` words.

    Args:
        path: the file.
        assignments: `input=PATH`, `seed=1`, `device=cuda`, `shard=all`, `track=tensorboard`, or `stage.field=value` (fields may go deeper:
            `online.kl.control.coef=0`).

    Raises:
        ConfigError: unknown or malformed keys, each with file and line.
    """
    settings = read_yaml(path)
    unknown = [str(name) for name in settings.values if name not in TOP]
    raise_collected([f"{settings.place((name,))}: a pipeline has no {name!r}. {nearest(name, TOP)}" for name in unknown])
    inputs, stages = (_mapping(settings, name) for name in ("inputs", "stages"))
    for name in stages:
        if name in inputs or name in TOP or not re.fullmatch(r"[\w-]+", name):
            raise ConfigError(
                f"{settings.place(('stages', name))}: a stage cannot be called {name!r}: the name is taken, or is not a word. Rename it."
            )
    for word in assignments:
        settings = _assign(settings, word, inputs, stages)
    paths: dict[str, str | None] = {}
    for name in inputs:
        value = settings.get(("inputs", name))
        if value is None or isinstance(value, str):
            paths[name] = value
        else:
            raise ConfigError(f"{settings.place(('inputs', name))}: the input {name} must be a path, got {value!r}.")
    seed = settings.get(("seed",))
    title = str(settings.get(("name",)) or path.stem)
    device = device_at(settings, ("device",), settings.get(("device",)) or AUTO)
    shard = shard_at(settings, ("shard",), settings.get(("shard",)), Shard())
    return Pipeline(
        title, seed_at(settings, ("seed",), 0 if seed is None else seed), paths, settings, tuple(stages), _track(settings), device, shard
    )


def _track(settings: Settings) -> tuple[str, ...]:
    """The trackers in `track: [tensorboard, wandb]`, or in words with commas between them."""
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


def _assign(settings: Settings, word: str, inputs: Mapping[str, object], stages: Mapping[str, object]) -> Settings:
    """The settings with one `name=value` of the command line applied."""
    name, equals, value = word.partition("=")
    if not equals:
        raise ConfigError(f"command line: {word!r} is not of the form name=value.")
    place = f"command line ({word})"
    first, *rest = name.split(".")
    if not rest and first in inputs:
        return settings.put(("inputs", first), value, place)
    if not rest and first in ("seed", "device", "shard", "name", "track"):
        return settings.put((first,), parse_word(value) if first == "seed" else value, place)
    if rest and first in stages:
        return settings.put(("stages", first, *rest), parse_word(value), place)
    if first in stages:
        raise ConfigError(f"{place}: {first} is a stage; set one of its fields: {first}.field=value.")
    raise ConfigError(
        f"{place}: there is no input or stage {first!r}. {nearest(first, (*inputs, *stages, 'seed', 'device', 'shard', 'track'))}"
    )


@dataclass
class Planner:
    """Plans stages in order, so that each can refer to those before.

    Attributes:
        root: folder of runs.
        cache: digests of large files.
        inputs: outside paths by name.
        order: names of all stages, for the message about a stage that comes too late.
    """

    root: Path
    cache: DigestCache
    inputs: Mapping[str, str | None] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    _done: dict[str, Planned] = field(default_factory=dict)

    def add(
        self, plan: RunPlan, stage: Stage, settings: Settings, keys: Keys = (), out: Path | None = None, extend: str | None = None
    ) -> Planned:
        """Find the stage's inputs, check it, and give it a key and a directory.

        Args:
            plan: name, kind, seed, expectation and device; this adds config and parents.
            stage: its configuration as written.
            settings: where it was read from, for error messages.
            keys: where in the settings it begins.
            out: its directory; by default `root/<name>-<key>`.
            extend: the run that it goes on from; None starts anew.

        Raises:
            ConfigError: an input does not exist, or settings contradict each other.
        """
        inputs, needs = list[tuple[str, str, str]](), list[tuple[str, Path]]()
        functions: dict[str, tuple[FunctionSource, ...]] = {}
        excluded = read_exclusions(self.root)

        def take(name: str, source: FunctionSource) -> None:
            if source.digests:  # Palate's own and Python's are named by their versions
                functions[name] = (source,)
                inputs.append((name, str(source.file), source.key))

        def find(name: str, value: str, mark: InputMark) -> str:
            at = settings.place((*keys, *name.split(".")))
            if mark.function:
                take(name, _function(f"{at}: {plan.name}.{name}", value))
                return value
            num_needs = len(needs)
            path, key = self._input(f"{at}: {plan.name}.{name}", value, mark, needs)
            if excluded.has_input(key):
                raise ConfigError(f"{at}: {plan.name}.{name}: `palate forget` withdrew {value} from {self.root}. Give another input.")
            if mark.has_programs and len(needs) == num_needs:  # no stage writes rules with programs of the user's
                functions[name] = program_sources(Path(path))
                key = " + ".join((key, *(source.key for source in functions[name])))
            inputs.append((name, path, key))
            return path

        resolved = map_inputs(stage, find)
        if extend is not None:
            inputs.append((EXTEND, *self._input(f"{settings.place((*keys, EXTEND))}: {plan.name}.{EXTEND}", extend, InputMark(), needs)))
        if is_import_path(plan.stage):
            take("stage", source_of(plan.stage))
        try:
            resolved.check()
        except ConfigError as error:
            raise ConfigError(f"{settings.place(keys)}: {plan.name}: {error}") from error
        config = cast("dict[str, object]", dump_config(resolved))
        bare = replace(plan, config=config, parents=tuple(Parent(*item) for item in inputs), outside=fields_outside_key(resolved))
        bare = leaving_out(bare, excluded, self.root, out)
        directory = bare.directory(self.root) if out is None else out
        parents = tuple(Parent(name, _relative(path, directory, key), key) for name, path, key in inputs)
        planned = Planned(replace(bare, parents=parents), directory, resolved, tuple(needs), functions)
        self._done[plan.name] = planned
        return planned

    def _input(self, at: str, value: str, mark: InputMark, needs: list[tuple[str, Path]]) -> tuple[str, str]:
        """The path and the key of an input as written."""
        if value in mark.names:
            return value, f"palate:{value}"
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
        if mark.hub and is_hub_name(value):
            return value, f"hub:{value}"
        offer = f" {nearest(value, mark.names)}" if mark.names else ""
        raise ConfigError(f"{at}: there is nothing at {value}. Correct the path{' or the name of the model' if mark.hub else ''}.{offer}")

    def _outside(self, at: str, name: str, inside: str) -> str:
        if name not in self.inputs:
            if name in self.order:
                raise ConfigError(f"{at}: ${name} comes later (or is this stage itself). Refer to an earlier stage, or change the order.")
            raise ConfigError(f"{at}: there is no stage or input ${name}. {nearest(name, (*self._done, *self.inputs))}")
        value = self.inputs[name]
        if value is None:
            raise ConfigError(f"{at}: the input {name} has no value. Add {name}=PATH to the command.")
        return str(Path(value) / inside) if inside else value


def _function(at: str, path: str) -> FunctionSource:
    """What the function at an import path is made of."""
    try:
        return source_of(path)
    except ConfigError as error:
        raise ConfigError(f"{at}: {error}") from error


def _relative(path: str, directory: Path, key: str) -> str:
    """A parent's path as the record has it: relative to the run when both lie in one folder of runs, else absolute."""
    if key.startswith(("hub:", "palate:", f"{path}@")):
        return path
    whole, home = Path(path).absolute(), directory.absolute()
    return os.path.relpath(whole, home) if home.parent in whole.parents else str(whole)


def plan_pipeline(pipeline: Pipeline, root: Path, stages: Stages) -> tuple[Planned, ...]:
    """Plan every stage of the pipeline in order: checked and keyed. This loads the stages' modules, and no model.

    Raises:
        ConfigError: whatever is wrong, with file and line, before anything runs; one message for all unknown settings.
    """
    configs: dict[str, tuple[RunPlan, Stage]] = {}
    errors: list[str] = []
    for name in pipeline.stages:
        with collected(errors):
            configs[name] = read_stage(pipeline, name, stages)
    raise_collected(errors)
    planner = Planner(root, DigestCache(root / ".digests.json"), pipeline.inputs, pipeline.stages)
    return tuple(
        planner.add(plan, config, pipeline.settings, ("stages", name), extend=extend_at(pipeline.settings, name))
        for name, (plan, config) in configs.items()
    )


def read_stage(pipeline: Pipeline, name: str, stages: Stages) -> tuple[RunPlan, Stage]:
    """Return a stage's plan, which has no inputs yet, and its configuration, whose inputs are as written."""
    keys, settings = ("stages", name), pipeline.settings
    entry = settings.get(keys)
    if not isinstance(entry, Mapping) or not isinstance(entry.get("stage"), str):
        raise ConfigError(f"{settings.place(keys)}: {name} must hold `stage: KIND` and its settings. {nearest(name, stages)}")
    kind = cast("str", entry["stage"])
    cls = find_stage(stages, kind, settings.place((*keys, "stage")))
    expect = entry.get("expect", "done")
    if expect not in ("done", "refused"):
        raise ConfigError(f"{settings.place((*keys, 'expect'))}: expect must be done or refused, got {expect!r}.")
    seed = seed_at(settings, (*keys, "seed"), entry.get("seed", pipeline.seed))
    device = device_at(settings, (*keys, "device"), entry.get("device", pipeline.device))
    shard = shard_at(settings, (*keys, "shard"), entry.get("shard"), pipeline.shard)
    keeps_state = kept_at(settings, (*keys, "keep_state"), entry.get("keep_state", False))
    plan = RunPlan(name, kind, seed=seed, expect=cast("Literal['done', 'refused']", expect), device=device, shard=shard)
    plan = replace(plan, keeps_state=keeps_state)
    return plan, read_config(cls, settings, keys, BESIDE)

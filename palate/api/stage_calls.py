"""Every stage as a function: it runs the stage that a pipeline file runs, with Python objects where that takes paths."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

from palate.api.given_objects import with_paths
from palate.config.object_paths import path_of
from palate.config.read import read_config
from palate.config.settings import Keys, Settings
from palate.core import ConfigError
from palate.core.process import AUTO, WHOLE, Shard
from palate.data.files import read_json
from palate.data.jsonl import read_rows
from palate.pipeline.execute import StageOutcome, forget, run_pipeline
from palate.pipeline.plan import Planned, Planner, plan_pipeline, read_pipeline
from palate.pipeline.table import STAGES, Stage
from palate.runs.digests import DigestCache
from palate.runs.record import RunPlan, RunRecord, read_record
from palate.runs.run import METRICS
from palate.runs.trackers import tracker_names


@dataclass(frozen=True, kw_only=True)
class RunWords:
    """How a stage is run, beside its settings.

    Attributes:
        name: what the run is called; by default as the stage.
        runs: the folder of runs.
        out: the run's own directory; none uses `runs/NAME-KEY`.
        seed: the seed of everything random.
        device: what models compute on.
        shard: which weights ranks share out.
        track: trackers that receive the metrics.
        fresh: whether an earlier run with the same settings is deleted first.
        extend: the run that this one goes on from; none starts anew.
        keep_state: whether the last checkpoint is kept, so that another run can go on from it.
    """

    name: str = ""
    runs: str = "runs"
    out: str | None = None
    seed: int = 0
    device: str = AUTO
    shard: str = WHOLE
    track: tuple[str, ...] = ()
    fresh: bool = False
    extend: str | None = None
    keep_state: bool = False

    def planned(self, kind: str, stage: Stage) -> Planned:
        """Return the stage, ready to run. Raises ConfigError where its settings cannot be used."""
        runs = Path(self.runs)
        plan = RunPlan(self.name or kind.partition(":")[2] or kind, kind, seed=self.seed, device=self.device, shard=Shard.read(self.shard))
        plan = replace(plan, keeps_state=self.keep_state)
        settings = Settings({}, {(): f"palate.{kind}"})
        out = None if self.out is None else Path(self.out)
        return Planner(runs, DigestCache(runs / ".digests.json")).add(plan, with_paths(stage, runs), settings, out=out, extend=self.extend)

    def run(self, planned: Planned) -> FinishedRun:
        """Run the stage unless that was done before. Raises PalateError as the stage does."""
        if self.fresh:
            forget([planned], [planned.plan.name])
        (outcome,) = run_pipeline([planned], say, track=tracker_names(list(self.track)))
        return FinishedRun.of(outcome)


RUN_WORDS = frozenset(item.name for item in fields(RunWords))


@dataclass(frozen=True)
class FinishedRun:
    """A run that a stage finished. It stands for its directory wherever a path does.

    Attributes:
        name: what the run is called.
        directory: where it lies.
        how: `done`, `resumed`, `refused` as expected, or `skipped` because it was done before.
    """

    name: str
    directory: Path
    how: str

    @staticmethod
    def of(outcome: StageOutcome) -> FinishedRun:
        """Return the run of an outcome."""
        return FinishedRun(outcome.name, outcome.directory, outcome.how)

    def __fspath__(self) -> str:
        """Return the directory as a text."""
        return os.fspath(self.directory)

    def path(self, *names: str) -> Path:
        """Return the path of a file or folder in the run."""
        return self.directory.joinpath(*names)

    @property
    def summary(self) -> Mapping[str, Any]:
        """The figures of the run; {} where it has none."""
        path = self.path("summary.json")
        return cast("Mapping[str, Any]", read_json(path)) if path.is_file() else {}

    @property
    def metrics(self) -> list[Mapping[str, float]]:
        """The metrics of each step, by name; [] where it logged none."""
        path = self.path(METRICS)
        return [cast("Mapping[str, float]", row) for _, row in read_rows(path)] if path.is_file() else []

    @property
    def record(self) -> RunRecord:
        """What the run was made from: settings, inputs, versions."""
        found = read_record(self.directory)
        assert found is not None
        return found


def say(text: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(f"{text}\n")


def stage_class(kind: str) -> type[Stage]:
    """Return the class of a stage; its docstring describes each setting. Raises ConfigError where there is no such stage."""
    if kind not in STAGES:
        raise ConfigError(f"there is no stage {kind!r}. Known: {', '.join(STAGES)}")
    return STAGES[kind].load()


def stage_function(kind: str) -> Callable[..., FinishedRun]:
    """Return the function that runs a stage. This does not load the stage yet."""

    def function(**settings: Any) -> FinishedRun:
        stage, words = settings_of(kind, settings)
        return words.run(words.planned(kind, stage))

    function.__name__ = function.__qualname__ = kind
    function.__module__ = "palate"
    function.__doc__ = (
        f"{STAGES[kind].help}\n\nEvery setting is described by `help(palate.stage_class({kind!r}))` and in docs/reference.md. Further "
        f"words: {', '.join(sorted(RUN_WORDS))}.\n"
    )
    return function


def settings_of(kind: str, settings: Mapping[str, Any]) -> tuple[Stage, RunWords]:
    """Return a stage and how it is run, of the words given to its function.

    Raises:
        ConfigError: a word is unknown or missing, or has the wrong type.
    """
    place: dict[Keys, str] = {(): f"palate.{kind}"}
    beside = {name: _plain(value) for name, value in settings.items() if name in RUN_WORDS}
    words = read_config(RunWords, Settings(beside, place))
    own = {name.removesuffix("_"): value for name, value in settings.items() if name not in RUN_WORDS}
    return read_config(stage_class(kind), Settings(own, place), takes_objects=True), words


def run_stage(stage: Stage, **words: Any) -> FinishedRun:
    """Run a stage that is given as an object: one of Palate's classes, or your own, with `check(self)` and `run(self, run)`.

    Args:
        stage: a frozen dataclass; its fields are its settings.
        words: how it is run, as for every function of a stage: seed, runs, out, name, device ...

    Raises:
        PalateError: what the stage raises.
    """
    how = read_config(RunWords, Settings({name: _plain(value) for name, value in words.items()}, {(): "palate.run_stage"}))
    target = f"{type(stage).__module__}:{type(stage).__qualname__}"
    kind = next((name for name, entry in STAGES.items() if entry.target == target), None) or path_of(type(stage))
    return how.run(how.planned(kind, stage))


def run(file: str | os.PathLike[str], assignments: Sequence[str] = (), *, runs: str | os.PathLike[str] = "") -> Mapping[str, FinishedRun]:
    """Run a pipeline file, as `palate run` does, and return its runs by stage.

    Args:
        file: the YAML file.
        assignments: words such as `seed=1` or `sft.epochs=2`.
        runs: the folder of runs; by default `runs/NAME`.

    Raises:
        PalateError: the first stage that fails stops the pipeline.
    """
    pipeline = read_pipeline(Path(file), assignments)
    planned = plan_pipeline(pipeline, Path(runs) if os.fspath(runs) else Path("runs") / pipeline.name, STAGES)
    return {outcome.name: FinishedRun.of(outcome) for outcome in run_pipeline(planned, say, track=pipeline.track)}


def _plain(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value

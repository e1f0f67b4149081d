"""Running planned stages in order: skip what is done, resume what was interrupted, record how each ends."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from palate.config.artifacts import refuse_retired
from palate.config.function_source import source_of
from palate.config.settings import nearest
from palate.core import ConfigError, Interrupted, RunError, TrainingError
from palate.core.process import computing_on
from palate.data.exclusions import excluding
from palate.data.files import read_json
from palate.distributed.ranks import ranks
from palate.pipeline.plan import Planned
from palate.pipeline.preflight import require_devices, require_memory, require_rewards, require_shards, require_writable
from palate.pipeline.together import opened, sharing
from palate.runs.lock import locked
from palate.runs.provenance import source_digest
from palate.runs.record import RECORD, RunPlan, changes, is_old, old_runs, old_text, read_record, setting_at
from palate.runs.run import Run
from palate.runs.trackers import About, Followers, require_trackers

Echo = Callable[[str], None]
State = Literal["new", "resumed", "done"]


@dataclass(frozen=True)
class StageOutcome:
    """How a stage ended.

    Attributes:
        name: the stage.
        how: `done`, `resumed`, `refused` (as expected), or `skipped` because an earlier run finished it.
        seconds: time of the stage, over all processes that worked on it.
        directory: its run.
        is_stopping: whether Ctrl-C came too late for the stage to notice. The next stage must then not start.
    """

    name: str
    how: Literal["done", "resumed", "refused", "skipped"]
    seconds: float
    directory: Path
    is_stopping: bool = False


def state_of(planned: Planned) -> State:
    """Return what `run_stage` would find: nothing (`new`), an interrupted run (`resumed`), or a finished one."""
    record = read_record(planned.directory)
    if record is None:
        return "new"
    return "done" if record.status == "done" else "resumed"


def run_stage(planned: Planned, track: Sequence[str] = ()) -> StageOutcome:
    """Run the stage unless its run is done, and return how it ended.

    Args:
        planned: the stage.
        track: trackers that receive its metrics.

    Raises:
        PalateError: what the stage raised; its run is marked failed or interrupted.
        TrainingError: the stage should have been refused, and was not.
    """
    for name, path in planned.needs:
        if not path.exists():
            home = next(place for place in path.parents if place.exists())
            known = sorted(entry.name for entry in home.iterdir() if not entry.name.startswith("."))
            raise ConfigError(f"{planned.plan.name} needs {path}, which {name} did not write. {nearest(path.name, known)}")
    refuse_retired(planned.directory)
    _require_same_functions(planned)
    group = ranks()
    with opened(planned, group) as run:
        if run.is_done:
            return StageOutcome(run.name, "skipped", run.record.seconds, planned.directory)
        is_refused = False
        with sharing(planned, group) as has_work:
            if has_work:
                with working(planned, run, track if group.is_writer else ()):
                    is_refused = _work(planned, run)
        how: Literal["done", "resumed", "refused"] = "refused" if is_refused else "resumed" if run.is_resumed else "done"
        return StageOutcome(run.name, how, run.record.seconds, planned.directory, any(group.gather(run.stop_requested)))


@contextmanager
def working(planned: Planned, run: Run, track: Sequence[str] = ()) -> Iterator[None]:
    """A context for the work of a stage: its run is locked and recorded, models compute as planned, and trackers receive the metrics."""
    with run.active(), _followed(run, track), _computing(run, planned.plan), excluding(planned.plan.excluded):
        yield


@contextmanager
def _followed(run: Run, track: Sequence[str]) -> Iterator[None]:
    """A context in which these trackers receive the run's metrics."""
    if not track:
        yield
        return
    about = About(run.id, run.directory.parent.name, run.directory.name, run.directory, run.config)
    followers = Followers(track, about, run.logged, run.state / "sent.json")
    run.follow(followers)
    is_done = False
    try:
        yield
        is_done = True
    finally:
        followers.close(is_done=is_done)


@contextmanager
def _computing(run: Run, plan: RunPlan) -> Iterator[None]:
    """A context in which models compute as planned; their device is recorded. Where its memory is full, the user is told what helps."""
    device = plan.device
    with computing_on(device, plan.shard if ranks().world > 1 else None) as computing:
        try:
            yield
        except RuntimeError as error:
            if not computing.is_used:
                raise
            from palate.models.devices import out_of_memory

            told = out_of_memory(error, device)
            if told is None:
                raise
            raise told from error
        finally:
            if computing.is_used:
                from palate.models.devices import describe, find_device

                run.computed_on(describe(find_device(device)), computing.dtype)


def _work(planned: Planned, run: Run) -> bool:
    """Whether the stage was refused, as expected."""
    require_rewards(planned)
    if planned.plan.expect == "done":
        planned.stage.run(run)
        return False
    try:
        planned.stage.run(run)
    except TrainingError as error:
        run.summary({"refused": str(error)})
        return True
    raise TrainingError(f"{run.name} was expected to be refused (expect: refused), but it finished. See {run.directory}.")


def run_pipeline(planned: Sequence[Planned], echo: Echo, only: str | None = None, track: Sequence[str] = ()) -> tuple[StageOutcome, ...]:
    """Run the stages in order and return how each ended. `echo` receives a line for each, and a table of times.

    Args:
        planned: the stages.
        echo: takes a line of text.
        only: run only this stage; the stages that it needs must be done.
        track: trackers that receive metrics beside `metrics.jsonl`.

    Raises:
        PalateError: the first stage that fails stops the pipeline.
    """
    require_trackers(track)
    todo = list(planned) if only is None else [_only(planned, only)]
    require_devices(todo)
    require_shards(todo)
    undone = [item for item in todo if state_of(item) != "done"]
    require_writable(undone)
    require_memory(undone, echo)
    width = max((len(item.plan.name) for item in todo), default=0)
    outcomes = []
    for item in todo:
        if (remark := _edited(item)) is not None:
            echo(remark)
        outcome = run_stage(item, track)
        remarks = _other_code(outcome) + _other_limits(outcome, item)
        echo(f"{outcome.name:<{width}}  {outcome.how:<8} {outcome.seconds:8.1f} s  {outcome.directory}{remarks}")
        outcomes.append(outcome)
        if outcome.is_stopping and item is not todo[-1]:
            raise Interrupted(f"stopped after {outcome.name}, which is done. The same command goes on with the next stage.")
    if len(outcomes) > 1:
        for line in times(outcomes):
            echo(line)
    for page in (page_of(outcome.directory) for outcome in outcomes):
        if page is not None:
            echo(f"\nOpen the page: {page.resolve().as_uri()}")
    return tuple(outcomes)


def page_of(directory: Path) -> Path | None:
    """Return the page that the run in `directory` made for people, or None: the `page` of its summary."""
    summary = read_json(directory / "summary.json") if (directory / "summary.json").is_file() else None
    name = summary.get("page") if isinstance(summary, dict) else None
    return directory / name if isinstance(name, str) else None


def _only(planned: Sequence[Planned], only: str) -> Planned:
    """The stage called `only`; every stage that it needs is done."""
    by_name = {item.plan.name: item for item in planned}
    if only not in by_name:
        raise ConfigError(f"--only {only}: the pipeline has no such stage. {nearest(only, by_name)}")
    for name, _ in by_name[only].needs:
        if state_of(by_name[name]) != "done":
            raise ConfigError(f"--only {only} needs {name}, which is not done. Run {name} first, or leave out --only.")
    return by_name[only]


def _require_same_functions(planned: Planned) -> None:
    """Refuse a stage whose functions were edited since it was planned: the run's key would name code that it does not run.

    Raises:
        RunError: there is such a function.
    """
    for field, sources in planned.functions.items():
        for source in sources:
            if source_of(source.path).key != source.key:
                raise RunError(
                    f"{planned.plan.name}.{field}: {source.path!r} was edited after this command had planned its stages. "
                    "Give the command again: the edited function starts a new run."
                )


def _edited(item: Planned) -> str | None:
    """A remark where a run differs from this new one in nothing but the source of the user's functions."""
    if not item.functions or read_record(item.directory) is not None:
        return None
    for directory in sorted(item.directory.parent.glob(f"{item.plan.name}-*")):
        record = read_record(directory)
        if record is None or record.name != item.plan.name:
            continue
        names = changes(record.identity, item.plan.identity).keys()
        if names and names <= item.functions.keys():
            return f"{item.plan.name}: {', '.join(names)} was edited since {directory} was made, so this is a new run"
    return None


def _other_code(outcome: StageOutcome) -> str:
    """A remark when other code than today's made a skipped run."""
    record = read_record(outcome.directory)
    is_other = outcome.how == "skipped" and record is not None and record.code.get("source") != source_digest()
    return "  (made by other code than this; --fresh makes it again)" if is_other else ""


def _other_limits(outcome: StageOutcome, item: Planned) -> str:
    """A remark when a skipped run watched other limits than it would now: they are not part of its key."""
    record = read_record(outcome.directory)
    if outcome.how != "skipped" or record is None:
        return ""
    other = [name for name in item.plan.outside if setting_at(record.config, name) != setting_at(item.plan.config, name)]
    return f"  (made with other {' and '.join(other)}; --fresh makes it again)" if other else ""


def times(outcomes: Sequence[StageOutcome]) -> list[str]:
    """Return the lines of a table: each stage with its time and its share, and last the total of this command."""
    total = sum(outcome.seconds for outcome in outcomes)
    worked = sum(outcome.seconds for outcome in outcomes if outcome.how != "skipped")
    width = max(len(outcome.name) for outcome in outcomes)
    lines = ["", f"{'stage':<{width}}   seconds  share"]
    lines += [f"{outcome.name:<{width}}  {outcome.seconds:8.1f}  {outcome.seconds / max(total, 1e-9):5.0%}" for outcome in outcomes]
    return [*lines, f"{'total':<{width}}  {total:8.1f}  of which now {worked:.1f} s"]


def forget(planned: Sequence[Planned], names: Sequence[str]) -> list[Path]:
    """Delete the runs of the stages named and of every stage that builds on one of them; return their directories.

    Runs of these stages in the same folder that an older Palate made go too.

    Raises:
        ConfigError: no such stage.
        RunError: a directory holds another run.
    """
    known = [item.plan.name for item in planned]
    for name in names:
        if name not in known:
            raise ConfigError(f"--fresh {name}: the pipeline has no such stage. {nearest(name, known)}")
    forgotten: set[str] = set()
    deleted = []
    for item in planned:
        if item.plan.name not in names and not any(name in forgotten for name, _ in item.needs):
            continue
        forgotten.add(item.plan.name)
        directories = _old_runs_of(item)
        record = None if item.directory in directories else read_record(item.directory)
        if record is not None:
            if record.key != item.plan.key:
                raise RunError(f"{item.directory} holds another run ({record.key}); it is not deleted. Choose another --out.")
            directories.append(item.directory)
        for directory in directories:
            with locked(directory):
                shutil.rmtree(directory)
        deleted += directories
    return deleted


def refuse_old_runs(planned: Sequence[Planned]) -> None:
    """Refuse a folder that has runs of these stages from an older Palate: beside new ones nobody could tell them apart.

    Raises:
        RunError: there is such a run.
    """
    for item in planned:
        for directory in _old_runs_of(item):
            raise RunError(old_text(directory))


def _old_runs_of(item: Planned) -> list[Path]:
    """Runs of the stage that an older Palate made: in its directory, or beside it where directories are named by keys."""
    if item.directory.name != f"{item.plan.name}-{item.plan.key}":
        path = item.directory / RECORD
        return [item.directory] if path.is_file() and is_old(read_json(path)) else []
    root = item.directory.parent
    return sorted(directory for directory, name in old_runs(root).items() if name == item.plan.name and directory.parent == root)


def plan_lines(planned: Sequence[Planned]) -> list[str]:
    """Return the lines of the plan: what each stage would do, and where."""
    words = {"new": "run", "resumed": "resume", "done": "skip"}
    width = max((len(item.plan.name) for item in planned), default=0)
    return [f"{item.plan.name:<{width}}  {words[state_of(item)]:<6}  {item.plan.stage:<9} {item.directory}" for item in planned]

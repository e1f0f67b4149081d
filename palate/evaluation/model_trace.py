"""What a checkpoint was made from: its runs, its rewards, the judgments behind them, guideline versions and the raters' pseudonyms."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from palate.core import RunError
from palate.data.files import read_json
from palate.data.jsonl import read_rows
from palate.data.judge_names import judge_name
from palate.data.pseudonyms import hidden
from palate.data.rater_rows import raters_in
from palate.evaluation.rater_votes import JUDGMENTS
from palate.runs.digests import DigestCache
from palate.runs.record import Parent, RunRecord, ancestry, parent_path, run_of

SAFE = re.compile(r"rater-[0-9a-f]{10}|rater~[0-9a-f]{12}|simulated-\d+|unknown-\d+")
"""Names of raters that Palate makes up. Other ones may be names of people."""

REWARDS = frozenset({"reward", "refresh", "rules"})
"""Stages that train what scores completions."""

Presence = Literal["unchanged", "changed", "missing", "elsewhere"]
"""Whether an input is still what it was; `elsewhere` for a model of a hub, and for a function."""


@dataclass(frozen=True)
class TracedRun:
    """A run that led to the checkpoint.

    Attributes:
        name: its name and key.
        stage: its kind.
        seed: its seed.
        parents: the key of each input, by the setting that names it.
        commit: the commit of the code that made it, if it is known.
        directory: where it lies.
    """

    name: str
    stage: str
    seed: int
    parents: Mapping[str, str]
    commit: str | None
    directory: Path


@dataclass(frozen=True)
class TracedInput:
    """An input that no run made.

    Attributes:
        run: the run that read it.
        field: the setting that names it.
        name: the last part of its path, or its name.
        key: the digest of its content.
        presence: whether it is still there with this content.
        rows: its lines, for a file that is unchanged.
    """

    run: str
    field: str
    name: str
    key: str
    presence: Presence
    rows: int | None


@dataclass(frozen=True)
class TracedJudgments:
    """Judgments that led to the checkpoint: a run of `collect` or `collect_rules`, or a file whose rows name raters.

    Attributes:
        name: the run, or the file.
        source: who judged: people, simulated, judge, likelihood, hybrid (of a judge and people), hybrid_simulated, rules, or file.
        judgments: how many there are.
        raters: judgments by pseudonym, most first.
        guidelines: judgments by version of the guidelines; "" where the version is not known.
        dimensions: judgments by dimension.
        readers: runs that learned from them or were tested on them.
        agreement: share of questions with two raters on which they agree; None where there are none.
        doubly_judged: how many questions that are.
        is_calibrated: whether the judge's answers went through a report card; None without a judge.
    """

    name: str
    source: str
    judgments: int
    raters: Mapping[str, int]
    guidelines: Mapping[str, int]
    dimensions: Mapping[str, int]
    readers: tuple[str, ...]
    agreement: float | None = None
    doubly_judged: int = 0
    is_calibrated: bool | None = None


@dataclass(frozen=True)
class TracedReward:
    """A reward model, or a classifier of rules, that led to the checkpoint.

    Attributes:
        name: its run.
        accuracy: share of held-out judgments that it agrees with, over all dimensions; None where the run did not measure it.
        held_out: how many judgments that are.
        readers: runs that learned from its scores, or chose by them.
    """

    name: str
    accuracy: float | None
    held_out: int
    readers: tuple[str, ...]


@dataclass(frozen=True)
class ModelTrace:
    """Everything that led to a checkpoint.

    Attributes:
        run: the checkpoint's run.
        runs: all runs, oldest first; the last one is the checkpoint's.
        rewards: reward models.
        judgments: judgments.
        inputs: inputs that no run made.
    """

    run: TracedRun
    runs: tuple[TracedRun, ...]
    rewards: tuple[TracedReward, ...]
    judgments: tuple[TracedJudgments, ...]
    inputs: tuple[TracedInput, ...]

    def plain(self) -> dict[str, Any]:
        """Return the trace as JSON values, without paths of this machine."""
        plain = asdict(self)
        for run in (plain["run"], *plain["runs"]):
            del run["directory"]
        return plain


def shown_rater(name: str) -> str:
    """Return a rater's name as a trace or a card may hold it: a digest for a name that Palate did not make up and that is not a judge's."""
    return name if SAFE.fullmatch(name) or judge_name(name) is not None else hidden(name)


def trace_model(path: Path) -> ModelTrace:
    """Trace the checkpoint of the run that `path` is or lies in.

    Raises:
        RunError: there is no run, or a record in its lineage cannot be read.
        DataError: a file of judgments cannot be read.
    """
    home = run_of(path.absolute())
    if home is None:
        raise RunError(f"{path} is not a run, and does not lie in one. `palate runs` lists the runs.")
    found = ancestry(home)
    runs = {key: _run(directory, record) for key, (directory, record) in found.items()}
    names = {key: run.name for key, run in runs.items()}
    readers: dict[str, list[str]] = {}
    for key, run in runs.items():
        for parent in run.parents.values():
            readers.setdefault(parent.split("/")[0], []).append(names[key])
    last = next(run for run in runs.values() if run.directory == home)
    return ModelTrace(
        last,
        (*(run for run in runs.values() if run is not last), last),
        tuple(_reward(run, _unique(readers.get(key, ()))) for key, run in runs.items() if run.stage in REWARDS),
        tuple(_judgments(found, readers, names)),
        tuple(_inputs(found)),
    )


def _unique(names: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _run(directory: Path, record: RunRecord) -> TracedRun:
    parents = {parent.field: parent.key for parent in record.parents}
    return TracedRun(f"{record.name}-{record.key}", record.stage, record.seed, parents, record.code.get("commit"), directory)


def _reward(run: TracedRun, readers: tuple[str, ...]) -> TracedReward:
    held_out = summary_of_run(run.directory).get("held_out")
    overall = held_out.get("overall", {}) if isinstance(held_out, Mapping) else {}
    return TracedReward(run.name, overall.get("accuracy"), int(overall.get("n", 0)), readers)


def summary_of_run(directory: Path) -> Mapping[str, Any]:
    """Return what a run wrote to its summary; {} where it wrote none."""
    path = directory / "summary.json"
    summary = read_json(path) if path.is_file() else {}
    return summary if isinstance(summary, Mapping) else {}


def _judgments(
    found: Mapping[str, tuple[Path, RunRecord]], readers: Mapping[str, list[str]], names: Mapping[str, str]
) -> Iterator[TracedJudgments]:
    """Yield the judgments of runs, and of files that no run made."""
    for key, (directory, record) in found.items():
        path = directory / JUDGMENTS
        if record.stage in {"collect", "collect_rules"} and path.is_file():
            source: Any = record.config.get("from", {})
            kind = "rules" if record.stage == "collect_rules" else str(source.get("kind", ""))
            if kind == "hybrid" and source["people"]["kind"] == "simulated":
                kind = "hybrid_simulated"
            summary = summary_of_run(directory)
            yield replace(
                _counted(names[key], kind, path, _unique(readers.get(key, ()))),
                agreement=summary.get("agreement"),
                doubly_judged=int(summary.get("doubly_judged", 0)),
                is_calibrated=summary.get("judges", {}).get("calibrated"),
            )
    seen: set[str] = set()
    for _, record in found.values():
        for parent, path in _outside(found, record):
            if path.is_file() and parent.key not in seen and any(raters_in(path)):
                seen.add(parent.key)
                yield _counted(path.name, "file", path, _unique(readers.get(parent.key, ())))


def _counted(name: str, kind: str, path: Path, readers: tuple[str, ...]) -> TracedJudgments:
    raters: Counter[str] = Counter()
    guidelines: Counter[str] = Counter()
    dimensions: Counter[str] = Counter()
    for one in raters_in(path):
        raters[shown_rater(one.rater)] += 1
        guidelines[one.guideline] += 1
        dimensions[one.dimension] += 1
    by_count = dict(sorted(raters.items(), key=lambda item: (-item[1], item[0])))
    return TracedJudgments(name, kind, raters.total(), by_count, dict(sorted(guidelines.items())), dict(dimensions), readers)


def _outside(found: Mapping[str, tuple[Path, RunRecord]], record: RunRecord) -> Iterator[tuple[Parent, Path]]:
    """Yield each input of a run that no run made, with its path."""
    directory = found[record.key][0]
    for parent in record.parents:
        path = parent_path(directory, parent)
        if run_of(path) is None:
            yield parent, path


def _inputs(found: Mapping[str, tuple[Path, RunRecord]]) -> Iterator[TracedInput]:
    cache = DigestCache()
    for _, record in found.values():
        for parent, path in _outside(found, record):
            presence: Presence = "missing"
            if ":" in parent.key:  # a model of a hub, something of Palate's own, or a function
                presence = "elsewhere"
            elif path.exists():
                presence = "unchanged" if cache.content(path) == parent.key else "changed"
            is_rows = presence == "unchanged" and path.is_file() and ".jsonl" in path.suffixes
            rows = sum(1 for _ in read_rows(path)) if is_rows else None
            name = parent.key.partition("@")[0] if presence == "elsewhere" else path.name
            yield TracedInput(f"{record.name}-{record.key}", parent.field, name, parent.key, presence, rows)

"""Withdrawing a rater or a source from a folder of runs: which runs descend from it, and what changes once they are made without it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from palate.agreement.estimates import json_values
from palate.config.settings import nearest
from palate.core import ConfigError
from palate.data.exclusions import Exclusion, exclude
from palate.data.formats.excluded_rows import source_of_row
from palate.data.jsonl import read_lines
from palate.data.rater_rows import JSON_LINES, mentions_of
from palate.evaluation.intervals import Estimate
from palate.evaluation.model_trace import REWARDS, shown_rater, summary_of_run
from palate.evaluation.rater_votes import JUDGMENTS
from palate.evaluation.recorded_sources import recorded_names
from palate.evaluation.run_metrics import find_evaluated, other_settings, paired_change
from palate.runs.digests import DigestCache
from palate.runs.record import RunRecord, list_runs, parent_path, read_record, run_of
from palate.runs.retirement import is_retired, retire

Runs = Sequence[tuple[Path, RunRecord]]


@dataclass(frozen=True)
class AffectedRun:
    """A run that has something of what is withdrawn.

    Attributes:
        directory: where it lies.
        record: its record.
        through: names of the inputs that brought it in; none where the run itself holds or reads it.
    """

    directory: Path
    record: RunRecord
    through: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The run's name and key."""
        return f"{self.record.name}-{self.record.key}"


@dataclass(frozen=True)
class Withdrawal:
    """What is withdrawn, and the runs that have something of it, oldest first."""

    exclusion: Exclusion
    affected: tuple[AffectedRun, ...]

    def plain(self) -> dict[str, Any]:
        """Return it as JSON values."""
        runs = [{"run": one.name, "stage": one.record.stage, "through": list(one.through)} for one in self.affected]
        return {"excluded": asdict(self.exclusion), "retired": runs}


def find_withdrawal(word: str, root: Path) -> Withdrawal:
    """Return what a word of the user withdraws from the runs below `root`: an input, a rater, or a source of rows.

    Raises:
        ConfigError: there are no runs, or none has anything of that name.
    """
    runs = list_runs(root)
    if not runs:
        raise ConfigError(f"there are no runs in {root}. Name the folder of runs with --in")
    contents = _Contents.of(runs)
    exclusion, roots = _meant(word, runs, contents)
    if not roots:
        known = [*contents.raters, *contents.sources]
        raise ConfigError(f"no run in {root} has a rater, a source or an input {word!r}. {nearest(word, known)}")
    return Withdrawal(exclusion, tuple(_descendants(runs, roots)))


def withdraw(withdrawal: Withdrawal, root: Path) -> None:
    """Mark every affected run as retired, and let later runs of the same folders leave out what is withdrawn."""
    for folder in sorted({root, *(directory.parent for directory, _ in list_runs(root) if directory != root)}):
        exclude(folder, withdrawal.exclusion)
    for one in withdrawal.affected:
        retire(one.directory, withdrawal.exclusion, one.through)


@dataclass(frozen=True)
class _Contents:
    """Which runs hold or read judgments of each rater, and rows of each source, by the run's key."""

    raters: Mapping[str, set[str]]
    sources: Mapping[str, set[str]]

    @staticmethod
    def of(runs: Runs) -> _Contents:
        raters: dict[str, set[str]] = {}
        sources: dict[str, set[str]] = {}
        read: dict[Path, tuple[set[str], set[str]]] = {}
        for directory, record in runs:
            for name in recorded_names(record):
                sources.setdefault(name, set()).add(record.key)
            for path in _files(directory, record):
                if path not in read:
                    read[path] = _names_in(path)
                for names, found in zip((raters, sources), read[path], strict=True):
                    for name in found:
                        names.setdefault(name, set()).add(record.key)
        return _Contents(raters, sources)


def _files(directory: Path, record: RunRecord) -> Iterator[Path]:
    """Yield the files of judgments that a run wrote, and the files from outside that it read."""
    if record.stage in {"collect", "collect_rules"} and (directory / JUDGMENTS).is_file():
        yield directory / JUDGMENTS
    for parent in record.parents:
        path = parent_path(directory, parent)
        if run_of(path) is None:
            yield from (file for file in ([path] if path.is_file() else sorted(path.rglob("*"))) if file.name.endswith(JSON_LINES))


def _names_in(path: Path) -> tuple[set[str], set[str]]:
    """Return the raters and the sources that the rows of a file name."""
    raters: set[str] = set()
    sources: set[str] = set()
    for line in read_lines(path):
        if not line.fault:
            raters.update(one.rater for one in mentions_of(line.row))
            sources.add(source_of_row(line.row))
    return raters, sources - {""}


def _meant(word: str, runs: Runs, contents: _Contents) -> tuple[Exclusion, set[str]]:
    """Return what the word withdraws, and the keys of the runs that hold or read it."""
    path = Path(word)
    if path.exists():
        home = run_of(path.absolute())
        record = None if home is None else read_record(home)
        key = DigestCache().content(path) if record is None else record.key
        readers = {one.key for _, one in runs if key in {parent.key.split("/")[0] for parent in one.parents}}
        return Exclusion("input", key), readers | ({key} if any(one.key == key for _, one in runs) else set())
    rater = Exclusion("rater", shown_rater(word))
    holders = {key for name, keys in contents.raters.items() if rater.is_rater(name) for key in keys}
    if holders:
        return rater, holders
    return Exclusion("source", word), contents.sources.get(word, set())


def _descendants(runs: Runs, roots: set[str]) -> Iterator[AffectedRun]:
    """Yield the runs with these keys and every run that was made from one of them."""
    names = {record.key: f"{record.name}-{record.key}" for _, record in runs}
    affected = set(roots)
    while True:
        more = {record.key for _, record in runs if any(parent.key.split("/")[0] in affected for parent in record.parents)} - affected
        if not more:
            break
        affected |= more
    for directory, record in runs:
        if record.key in affected:
            keys = dict.fromkeys(parent.key.split("/")[0] for parent in record.parents)
            through = tuple(names[key] for key in keys if key in affected and key in names)
            yield AffectedRun(directory, record, () if record.key in roots else through)


@dataclass(frozen=True)
class MetricShift:
    """A figure of a retired run beside that of the run that took its place.

    Attributes:
        run: the name of both in their pipeline.
        metric: the figure.
        before: the mean of the retired run; for evaluate over the questions that both answered.
        change: the new run less the retired one: paired by question, or None where the figures are of other questions.
        after: the mean of the new run.
    """

    run: str
    metric: str
    before: float
    after: float
    change: Estimate | None


def shifts(root: Path) -> list[MetricShift]:
    """Return how the figures of retired evaluate runs and reward runs changed in the runs of the same name that took their places.

    Raises:
        DataError: the rows of an evaluate run cannot be read.
    """
    runs = [(directory, record) for directory, record in list_runs(root) if record.status == "done"]
    found: list[MetricShift] = []
    for directory, record in runs:
        if is_retired(directory):
            heirs = [
                place
                for place, one in runs
                if (one.name, one.stage, place.parent) == (record.name, record.stage, directory.parent) and not is_retired(place)
            ]
            if heirs:
                found += _shifts_of(directory, heirs[-1], record)
    return found


def _shifts_of(old: Path, new: Path, record: RunRecord) -> Iterator[MetricShift]:
    if record.stage == "evaluate":
        before, after = find_evaluated(old), find_evaluated(new)
        for name, column in after.metrics.items():
            other = before.metrics.get(name)
            # Both were scored by their own reward models, whose scores have no common scale.
            if other is None or other_settings(column, after.record, before.record) or (pair := paired_change(column, other)) is None:
                continue
            yield MetricShift(record.name, name, pair[1].value, pair[1].value + pair[0].value, pair[0])
    elif record.stage in REWARDS:
        accuracies = [
            {name: one["accuracy"] for name, one in summary_of_run(place).get("held_out", {}).items() if one.get("accuracy") is not None}
            for place in (old, new)
        ]
        for name in accuracies[0]:
            if name in accuracies[1]:
                yield MetricShift(record.name, f"accuracy/{name}", accuracies[0][name], accuracies[1][name], None)


def plain_shifts(found: Sequence[MetricShift]) -> Any:
    """Return the changes as JSON values."""
    return json_values([asdict(one) for one in found])

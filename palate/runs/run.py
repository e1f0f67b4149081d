"""Run directories: one per stage, keyed by content and resumable, with a record of what the run was made from."""

from __future__ import annotations

import math
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from palate.core import Advance, Follower, Interrupted, RunError, printable
from palate.data.files import write_json
from palate.data.jsonl import RowWriter, read_rows, write_rows
from palate.runs.extension import BEGUN, begin_extension, keep_state
from palate.runs.failures import reported as failure_of
from palate.runs.live_view import View, has_view
from palate.runs.lock import Stop, locked, stoppable
from palate.runs.progress import PROGRESS, progress, recorded
from palate.runs.provenance import code, versions
from palate.runs.record import RECORD, RunPlan, RunRecord, Status, differences, read_record

METRICS, WARNINGS, EXAMPLES = "metrics.jsonl", "warnings.jsonl", "examples.jsonl"
METRIC_NAME = re.compile(r"[\w.-]+/[\w.-]+/[\w.-]+")


class Run:
    """A run directory in use. A stage receives it as its argument.

    Attributes:
        directory: where the stage writes its files.
        name: the stage's name in its pipeline.
        stage: the kind of stage.
        seed: seed of everything random in the run.
        config: the resolved configuration as JSON values; the stage object has it with types.
        key: the run's key.
        is_done: an earlier process finished this run.
        is_resumed: an earlier process started this run and did not finish it, or it goes on where another run was done.
        keeps_state: whether the last checkpoint stays when the run is done, so that another run can go on from it.
    """

    def __init__(self, directory: Path, record: RunRecord, *, is_resumed: bool) -> None:
        self.directory = directory
        self.name, self.stage, self.seed, self.config, self.key = record.name, record.stage, record.seed, record.config, record.key
        self.is_done = record.status == "done"
        self.is_resumed = is_resumed
        self.keeps_state = record.keeps_state
        self._record = record
        self._stop = Stop()
        self._metrics: RowWriter | None = None
        self._early_warnings = 0
        self._has_logged = False
        self._dropped: dict[str, Counter[str]] = {}
        self._view: View | None = None
        self._follower: Follower | None = None

    @property
    def id(self) -> str:
        """A name for trackers. It stays when the run resumes, and changes when the run starts afresh."""
        return f"{self.name}-{self.key}-{re.sub('[^0-9]', '', self._record.started)[:14]}"

    @property
    def record(self) -> RunRecord:
        """What `run.json` holds."""
        return self._record

    @property
    def state(self) -> Path:
        """The folder for checkpoints, created on first use. It is deleted when the run is done."""
        path = self.directory / "state"
        path.mkdir(exist_ok=True)
        return path

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append a row with the step and the metrics to `metrics.jsonl`, in the order given.

        The row has no time, so that the same run gives the same bytes.

        Args:
            step: number of steps so far.
            metrics: `stage/thing/statistic` to a finite number (anything `float()` takes, a 0-d tensor too).

        Raises:
            RunError: a name has another shape, or a number is not finite.
        """
        self._has_logged = True
        row: dict[str, float] = {"step": step}
        for name, value in metrics.items():
            number = float(value)
            if not METRIC_NAME.fullmatch(name):
                raise RunError(f"metric {name!r} of step {step} is not named stage/thing/statistic. Rename it.")
            if not math.isfinite(number):
                raise RunError(f"metric {name!r} of step {step} is {number}. Leave out what has no value at this step.")
            row[name] = number
        self._metrics = self._metrics or self.rows(METRICS)
        self._metrics.append(row)
        if self._view is not None:
            self._view.feed(row)
        if self._follower is not None:
            self._follower.log(step, {name: row[name] for name in metrics})

    def follow(self, follower: Follower) -> None:
        """Send every further row to `follower`, after it is written."""
        self._follower = follower

    def logged(self) -> list[dict[str, float]]:
        """Return the rows of `metrics.jsonl` so far; after `rewind`, those that were kept."""
        path = self.directory / METRICS
        return [cast("dict[str, float]", row) for _, row in read_rows(path)] if path.is_file() else []

    def warn(self, step: int, new: Mapping[str, str], active: Mapping[str, str]) -> None:
        """Write each new warning to `warnings.jsonl` and to standard error.

        Args:
            step: as in `log`.
            new: the text of each new warning, by guard.
            active: every warning that holds, for a live view.
        """
        if self._view is not None:
            self._view.warn(active)
        for guard, text in new.items():
            with self.rows(WARNINGS) as rows:
                rows.append({"step": step, "guard": guard, "text": text})
            self._early_warnings += not self._has_logged
            sys.stderr.write(f"  {self.name}, step {step}: {guard}: {printable(text)}\n")

    def rewind(self, step: int) -> None:
        """Drop the rows of `metrics.jsonl` and `warnings.jsonl` from `step` on, because a resumed run does those steps again.

        Rows of `examples.jsonl` that later weights wrote go too. Warnings that this process gave before it logged anything stay: they are
        not of a step.
        """
        self._close()
        for name, end in ((METRICS, step), (WARNINGS, step), (EXAMPLES, step + 1)):
            path = self.directory / name
            if path.is_file():
                self.rows(name).close()  # removes a last line that a crash left half-written
                rows = [row for _, row in read_rows(path)]
                early = len(rows) - (self._early_warnings if name == WARNINGS else 0)
                write_rows(path, [row for row in rows[:early] if cast("int", row["step"]) < end] + rows[early:])

    def rows(self, filename: str) -> RowWriter:
        """Return a writer that appends JSON rows to `filename` in the directory."""
        return RowWriter(self.directory / filename)

    def summary(self, values: Mapping[str, object]) -> None:
        """Write `values`, the figures of the run that others read, to `summary.json`."""
        write_json(self.directory / "summary.json", dict(values))

    def dropped(self, source: str, reasons: Iterable[str]) -> None:
        """Record how many rows of `source` could not be used, by reason, and say so.

        Counts of one process add up, because several files can have one source; they replace those of an earlier process.
        """
        if counts := Counter(reasons):
            listed, number = "; ".join(f"{count} x {reason}" for reason, count in sorted(counts.items())), sum(counts.values())
            self.say(f"{number} {'row' if number == 1 else 'rows'} of {source} {'is' if number == 1 else 'are'} left out: {listed}")
        (total := self._dropped.setdefault(source, Counter())).update(counts)
        self._save(replace(self._record, dropped={**self._record.dropped, source: dict(sorted(total.items()))}))

    def computed_on(self, device: str, dtype: str | None) -> None:
        """Record the device on which the run's models were, and what `dtype: auto` meant there, where a stage asked."""
        self._save(replace(self._record, device=device, dtype=dtype))

    def note(self, source: str, notes: Sequence[str]) -> None:
        """Record what happens to rows of `source` that are used, and say it. This replaces earlier notes."""
        if notes:
            self._save(replace(self._record, notes={**self._record.notes, source: list(notes)}))
        for text in notes:
            self.say(f"{source}: {text}")

    def columns_left_out(self, source: str, columns: Iterable[str]) -> None:
        """Say which columns of `source` are no part of any text, if there are such columns."""
        if names := ", ".join(columns):
            self.say(f"{source}: no text is made of the columns {names}. If one is part of it, say so in `columns` (docs/data.md)")

    def say(self, text: str) -> None:
        """Write a line about the run to standard error."""
        sys.stderr.write(f"  {self.name}: {printable(text)}\n")

    @contextmanager
    def progress(self, total: int, label: str, limits: Mapping[str, float] | None = None, *, of_people: bool = False) -> Iterator[Advance]:
        """A context that gives `advance(n=1, note="")`: a bar in a terminal, elsewhere a line now and then.

        In a terminal, online training has a view of its metrics below the bar. `log` and `warn` update it. The state has the progress too.

        Args:
            total: number of units.
            label: what the units are; for a loop that trains, the kind of the stage.
            limits: a limit by metric, such as a KL target or budget; it stands beside the metric.
            of_people: people do the units, so no time is forecast.
        """
        self._view = View(label, limits or {}) if has_view(label, sys.stderr) else None
        if self._view is not None:
            for row in self.logged():
                self._view.feed(row)
        try:
            with progress(total, label, self._view, of_people=of_people) as advance:
                yield recorded(advance, self.state / PROGRESS, total, label, limits or {})
        finally:
            self._view = None

    @property
    def stop_requested(self) -> bool:
        """Whether Ctrl-C or SIGTERM asked the run to finish its step, save and stop."""
        return self._stop.is_requested

    def check_stop(self) -> None:
        """Raise Interrupted if the user asked to stop. Call it between steps, after saving.

        Raises:
            Interrupted: the user asked to stop.
        """
        if self.stop_requested:
            raise Interrupted(f"{self.name} was interrupted and is saved in {self.directory}. The same command continues it.")

    @contextmanager
    def active(self) -> Iterator[Run]:
        """A context for the work of the stage: the run is locked, Ctrl-C stops it, and its status is recorded however it ends.

        Raises:
            RunError: another process works in the directory, or the disk is full.
            Interrupted: Ctrl-C.
        """
        with locked(self.directory), stoppable(self._stop):
            began, before = time.monotonic(), self._record.seconds
            self._save(replace(self._record, status="running", finished=None, error=None))

            def leave(status: Status, error: str | None) -> None:
                seconds = round(before + time.monotonic() - began, 3)
                self._save(replace(self._record, status=status, finished=_now(), seconds=seconds, error=error))

            try:
                yield self
            except BaseException as error:
                self._close()
                reported = failure_of(error, self.name, self.directory)
                # On a full disk the record stays at "running", from which the same command can continue too.
                with suppress(OSError):
                    leave("interrupted" if isinstance(reported, Interrupted) else "failed", f"{type(reported).__name__}: {reported}")
                if reported is error:
                    raise
                raise reported from error
            self._close()
            if self.keeps_state:
                keep_state(self.directory)
            shutil.rmtree(self.directory / "state", ignore_errors=True)
            leave("done", None)
            self.is_done = True

    def _close(self) -> None:
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None

    def _save(self, record: RunRecord) -> None:
        record.write(self.directory)
        self._record = record


def open_run(root: Path, plan: RunPlan) -> Run:
    """Open the run of `plan` in `root/<name>-<key>`: new, resumed in place, or done (`is_done`)."""
    return open_run_at(plan.directory(root), plan)


def open_run_at(directory: Path, plan: RunPlan) -> Run:
    """Open the run of `plan` in `directory`: new, resumed in place, or done (`is_done`).

    Raises:
        RunError: the directory holds another run, or files that do not belong to a run.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{directory} cannot be created ({error}). Choose another directory for runs.") from error
    record = read_record(directory)
    if record is not None:
        if record.key != plan.key:
            raise RunError(
                f"{directory} holds the run {record.name}-{record.key}, not {plan.name}-{plan.key}. They differ in "
                f"{'; '.join(differences(record.identity, plan.identity))}. Choose another --out, or repeat those settings; "
                "after a function's name, @ stands before the digest of its source."
            )
        if record.status == "done":
            return Run(directory, record, is_resumed=False)
        record = replace(record, keeps_state=plan.keeps_state)
        return Run(directory, replace(record, config=plan.config, code=code(), versions=versions()), is_resumed=True)
    earlier = begin_extension(directory, plan)
    own = {".lock", *(() if earlier is None else BEGUN)}
    others = sorted(path.name for path in directory.iterdir() if path.name not in own and not path.name.startswith(f".{RECORD}."))
    if others:
        raise RunError(f"{directory} holds files that do not belong to a run ({', '.join(others[:3])}). Choose an empty directory.")
    record = RunRecord(
        name=plan.name,
        stage=plan.stage,
        key=plan.key,
        status="running",
        seed=plan.seed,
        identity=plan.identity,
        config=plan.config,
        parents=plan.parents,
        code=code(),
        versions=versions(),
        started=_now(),
        keeps_state=plan.keeps_state,
        dropped={} if earlier is None else earlier.dropped,
        notes={} if earlier is None else earlier.notes,
    )
    record.write(directory)
    return Run(directory, record, is_resumed=earlier is not None)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")

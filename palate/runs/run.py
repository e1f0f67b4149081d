"""Run directories: one a stage, keyed by content, resumable, with a record of what it came from."""

from __future__ import annotations

import errno
import json
import math
import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from palate.core import Advance, Follower, Interrupted, PalateError, RunError
from palate.data.files import write_json
from palate.data.jsonl import RowWriter, read_rows, write_rows
from palate.runs.live_view import View, has_view
from palate.runs.lock import Stop, locked, stoppable
from palate.runs.progress import progress
from palate.runs.provenance import code, versions
from palate.runs.record import RECORD, RunPlan, RunRecord, Status, read_record

METRICS = "metrics.jsonl"
WARNINGS = "warnings.jsonl"
METRIC_NAME = re.compile(r"[\w.-]+/[\w.-]+/[\w.-]+")
SPARE_BYTES = 1 << 20
"""With less free space than this, whatever failed is taken to have failed for want of space."""


class Run:
    """A run directory in use; what a stage is handed.

    Attributes:
        directory: where everything the stage writes goes.
        name: the stage's name in its pipeline.
        stage: the kind of stage.
        seed: seed of everything random in the run.
        config: the resolved configuration as JSON values (the stage itself is the typed one).
        key: the run's key.
        is_done: an earlier process finished this run.
        is_resumed: an earlier process began this run and did not finish it.
    """

    def __init__(self, directory: Path, record: RunRecord, *, is_resumed: bool) -> None:
        self.directory = directory
        self.name, self.stage, self.seed = record.name, record.stage, record.seed
        self.config, self.key = record.config, record.key
        self.is_done = record.status == "done"
        self.is_resumed = is_resumed
        self._record = record
        self._stop = Stop()
        self._metrics: RowWriter | None = None
        self._view: View | None = None
        self._follower: Follower | None = None

    @property
    def id(self) -> str:
        """A name for the outside: it stays when the run is resumed, and is another one when it is made afresh."""
        return f"{self.name}-{self.key}-{re.sub('[^0-9]', '', self._record.started)[:14]}"

    @property
    def seconds(self) -> float:
        """Seconds spent in this run so far, over all processes that worked on it; known once it is left."""
        return self._record.seconds

    @property
    def state(self) -> Path:
        """The folder for checkpoints (made when asked for). It is deleted when the run is done."""
        path = self.directory / "state"
        path.mkdir(exist_ok=True)
        return path

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Nothing; one row of `metrics.jsonl` with the step and the metrics, in the order given.

        No clock is written: the same run gives the same bytes.

        Args:
            step: count of steps so far.
            metrics: `stage/thing/statistic` to a finite number (anything `float()` takes, a 0-d tensor too).

        Raises:
            RunError: a name of another shape, or a number that is not finite.
        """
        row: dict[str, float] = {"step": step}
        for name, value in metrics.items():
            number = float(value)
            if not METRIC_NAME.fullmatch(name):
                raise RunError(f"metric {name!r} of step {step} is not named stage/thing/statistic. Rename it.")
            if not math.isfinite(number):
                raise RunError(f"metric {name!r} of step {step} is {number}. Leave out what has no value at this step.")
            row[name] = number
        if self._metrics is None:
            self._metrics = self.rows(METRICS)
        self._metrics.append(row)
        if self._view is not None:
            self._view.feed(row)
        if self._follower is not None:
            self._follower.log(step, {name: value for name, value in row.items() if name != "step"})

    def follow(self, follower: Follower) -> None:
        """Nothing; `follower` is sent every row from now on, after it was written."""
        self._follower = follower

    def logged(self) -> list[dict[str, float]]:
        """The rows of `metrics.jsonl` so far; after `rewind`, those of the steps that stand."""
        path = self.directory / METRICS
        return [cast("dict[str, float]", row) for _, row in read_rows(path)] if path.is_file() else []

    def warn(self, step: int, new: Mapping[str, str], active: Mapping[str, str]) -> None:
        """Nothing; what guards say for the first time is a row of `warnings.jsonl` each, and a line on standard error.

        Args:
            step: as in `log`.
            new: text by guard.
            active: what all guards still hold to, for a live view.
        """
        if self._view is not None:
            self._view.warn(active)
        for guard, text in new.items():
            with self.rows(WARNINGS) as rows:
                rows.append({"step": step, "guard": guard, "text": text})
            sys.stderr.write(f"  {self.name}, step {step}: {guard}: {text}\n")

    def rewind(self, step: int) -> None:
        """Nothing; rows of `metrics.jsonl` and `warnings.jsonl` from `step` on are gone. For a resume: those steps will be done again."""
        self._close()
        for path in (self.directory / METRICS, self.directory / WARNINGS):
            if path.is_file():
                self.rows(path.name).close()  # cuts off a last line that a crash left half-written
                write_rows(path, [row for _, row in read_rows(path) if cast("int", row["step"]) < step])

    def rows(self, filename: str) -> RowWriter:
        """An append-only writer of JSON rows to `filename` in the directory; rows already there are kept."""
        return RowWriter(self.directory / filename)

    def summary(self, values: Mapping[str, object]) -> None:
        """Nothing; `summary.json` holds `values`: the figures of the run that others read."""
        write_json(self.directory / "summary.json", dict(values))

    def dropped(self, source: str, reasons: Iterable[str]) -> None:
        """Nothing; the record counts, by reason, the rows of `source` that could not be used. Replaces an earlier count."""
        counts: dict[str, int] = {}
        for reason in reasons:
            counts[reason] = counts.get(reason, 0) + 1
        self._save(replace(self._record, dropped={**self._record.dropped, source: dict(sorted(counts.items()))}))

    @contextmanager
    def progress(self, total: int, label: str, limits: Mapping[str, float] | None = None) -> Iterator[Advance]:
        """A context that gives `advance(n=1, note="")`: a bar in a terminal, a line now and then elsewhere.

        In a terminal the bar of online training has a view of its metrics below it, which `log` and `warn` keep up to date.

        Args:
            total: units in all.
            label: what they are; the stage's kind for a loop that trains.
            limits: what is shown beside metrics of these names: a KL target or budget.
        """
        self._view = View(label, limits or {}) if has_view(label, sys.stderr) else None
        if self._view is not None:
            for row in self.logged():
                self._view.feed(row)
        try:
            with progress(total, label, self._view) as advance:
                yield advance
        finally:
            self._view = None

    @property
    def stop_requested(self) -> bool:
        """Whether Ctrl-C (or a polite kill) asked the run to finish its step, save and stop."""
        return self._stop.is_requested

    def check_stop(self) -> None:
        """Nothing, as long as nobody asked to stop. Call it between steps, after saving.

        Raises:
            Interrupted: somebody did.
        """
        if self.stop_requested:
            raise Interrupted(f"{self.name} was interrupted; what was done is saved in {self.directory}. The same command goes on.")

    @contextmanager
    def active(self) -> Iterator[Run]:
        """The run itself, while its stage works: locked, stoppable by Ctrl-C, and its status recorded however it ends.

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
                told = self._told(error)
                # A full disk keeps the older record, "running", from which the same command goes on too.
                with suppress(OSError):
                    leave("interrupted" if isinstance(told, Interrupted) else "failed", f"{type(told).__name__}: {told}")
                if told is error:
                    raise
                raise told from error
            self._close()
            shutil.rmtree(self.directory / "state", ignore_errors=True)
            leave("done", None)
            self.is_done = True

    def _told(self, error: BaseException) -> BaseException:
        """The error to raise for `error`: full disks and Ctrl-C get words of their own."""
        if isinstance(error, KeyboardInterrupt):
            return Interrupted(f"{self.name} was stopped at once; the same command goes on from what is saved in {self.directory}.")
        if isinstance(error, PalateError) or not isinstance(error, Exception):
            return error
        is_full = isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
        if is_full or shutil.disk_usage(self.directory).free < SPARE_BYTES:
            return RunError(f"no space left for {self.directory} ({error}). Make room; the same command goes on from what is saved.")
        return error

    def _close(self) -> None:
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None

    def _save(self, record: RunRecord) -> None:
        record.write(self.directory)
        self._record = record


def open_run(root: Path, plan: RunPlan) -> Run:
    """The run of `plan` in `root/<name>-<key>`: new, resumed in place, or done (`is_done`)."""
    return open_run_at(plan.directory(root), plan)


def open_run_at(directory: Path, plan: RunPlan) -> Run:
    """The run of `plan` in `directory`: new, resumed in place, or done (`is_done`).

    Raises:
        RunError: the directory holds another run, or files that are no run's.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{directory} cannot be made a directory ({error}). Choose another place for runs.") from error
    record = read_record(directory)
    if record is not None:
        if record.key != plan.key:
            raise RunError(
                f"{directory} holds the run {record.name}-{record.key}, not {plan.name}-{plan.key}. They differ in "
                f"{'; '.join(differences(record.identity, plan.identity))}. Choose another --out, or repeat those settings."
            )
        if record.status == "done":
            return Run(directory, record, is_resumed=False)
        return Run(directory, replace(record, code=code(), versions=versions()), is_resumed=True)
    foreign = sorted(path.name for path in directory.iterdir() if path.name != ".lock" and not path.name.startswith(f".{RECORD}."))
    if foreign:
        raise RunError(f"{directory} holds files that are no run's ({', '.join(foreign[:3])}). Choose an empty directory.")
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
    )
    record.write(directory)
    return Run(directory, record, is_resumed=False)


def differences(old: object, new: object, at: str = "") -> list[str]:
    """Sentences naming where two identities differ, as `field: old there, new here`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        found = []
        for name in dict.fromkeys((*old, *new)):
            place = f"{at}.{name}" if at and at != "config" else str(name)
            found += differences(old.get(name), new.get(name), place)
        return found
    return [] if old == new else [f"{at}: {json.dumps(old)} there, {json.dumps(new)} here"]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")

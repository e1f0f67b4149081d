"""A run as the live page shows it: read from its directory, again and again, and only what is new."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from palate.config.artifacts import MEMBERS
from palate.core import RunError
from palate.data.files import read_json
from palate.data.jsonl import Row
from palate.runs.appended_rows import AppendedRows
from palate.runs.liveness import RunState, state_of
from palate.runs.lock import is_at_work
from palate.runs.progress import PROGRESS
from palate.runs.record import RECORD, RunRecord, read_record
from palate.runs.run import EXAMPLES, METRICS, WARNINGS
from palate.web.live_curves import LiveCurve

WRITTEN = (RECORD, METRICS, WARNINGS, EXAMPLES, f"state/{PROGRESS}")
"""Files that say by their times when the run wrote last."""


def require_run(directory: Path) -> RunRecord:
    """Return the record of a run.

    Raises:
        RunError: the directory does not exist, or holds no run.
    """
    if not directory.exists():
        raise RunError(f"{directory} does not exist. `palate runs` lists the runs; a run can be watched as soon as it has started.")
    record = read_record(directory)
    if record is None:
        raise RunError(f"{directory} holds no {RECORD}: it is not a run directory. `palate runs` lists the runs.")
    return record


class WatchedRun:
    """The followed files of one run, and what was read from them."""

    def __init__(self, directory: Path, name: str = "") -> None:
        """Follow the run in a directory.

        Raises:
            RunError: as `require_run`.
        """
        self.directory = directory
        self.name = name or directory.resolve().name
        self._record = require_run(directory)
        self._lost = ""
        self._metrics, self._warnings, self._examples = (AppendedRows(directory / one) for one in (METRICS, WARNINGS, EXAMPLES))
        self._curves: dict[str, LiveCurve] = {}
        self._rows = 0
        self._warned: list[Row] = []
        self._shown: list[Row] = []

    def members(self) -> list[Path]:
        """Return the directories of the members of an ensemble that the run trains, as far as they have started."""
        folder = self.directory / MEMBERS
        places = folder.iterdir() if folder.is_dir() else ()
        return sorted((place for place in places if (place / RECORD).is_file()), key=lambda place: place.name.zfill(9))

    def read(self) -> None:
        """Read what is new. A run that cannot be read any more keeps what was read, and its state says so."""
        try:
            self._record, self._lost = require_run(self.directory), ""
        except (RunError, OSError) as error:
            self._lost = str(error)
        is_new, rows = self._metrics.take()
        if is_new:
            self._curves, self._rows = {}, 0
        for row in rows:
            self._add(row)
        is_new, rows = self._warnings.take()
        self._warned = ([] if is_new else self._warned) + rows
        is_new, rows = self._examples.take()
        self._shown = ([] if is_new else self._shown) + rows

    def plain(self) -> dict[str, Any]:
        """Return what the page shows, as JSON values. Times are seconds since 1970."""
        record, progress = self._record, self._progress()
        written = max(self._times(), default=0.0)
        each = None if progress is None else cast("float | None", progress["seconds_per_unit"])
        state = state_of(record, time.time() - written, each, is_at_work=is_at_work(self.directory))
        if self._lost:
            state = RunState("unknown", self._lost)
        return {
            "name": self.name,
            "stage": record.stage,
            "state": state.state,
            "why": state.text,
            "progress": progress if state.state != "ended" else None,
            "written": written,
            "seconds": record.seconds if state.state == "ended" and record.status != "running" else None,
            "rows": self._rows,
            "faults": [one.fault for one in (self._metrics, self._warnings, self._examples) if one.fault],
            "curves": {name: curve.plain() for name, curve in self._curves.items()},
            "warnings": [{"step": row.get("step"), "guard": str(row.get("guard")), "text": str(row.get("text"))} for row in self._warned],
            "examples": self._prompts(),
        }

    def _add(self, row: Row) -> None:
        step = row.get("step")
        if not isinstance(step, int | float):
            return
        self._rows += 1
        for name, value in row.items():
            if name != "step" and isinstance(value, int | float):
                self._curves.setdefault(name, LiveCurve()).add(step, value)

    def _times(self) -> Iterator[float]:
        for name in WRITTEN:
            with suppress(OSError):
                yield (self.directory / name).stat().st_mtime

    def _progress(self) -> dict[str, object] | None:
        """Return what `progress.json` says, with the time at which it was written; None where there is none."""
        path = self.directory / "state" / PROGRESS
        with suppress(OSError, RunError):
            said, at = read_json(path), path.stat().st_mtime
            if isinstance(said, dict) and {"label", "done", "total", "limits", "seconds_per_unit"} <= said.keys():
                return {**said, "at": at}
        return None

    def _prompts(self) -> list[dict[str, object]]:
        """Return the prompts with their completions, each with the number of iterations or steps before it."""
        prompts: dict[tuple[str, str], dict[str, Any]] = {}
        for row in self._shown:
            prompt = str(row.get("prompt"))
            one = prompts.setdefault((str(row.get("id")), prompt), {"prompt": prompt, "samples": []})
            one["samples"].append({"step": row.get("step"), "text": str(row.get("completion"))})
        return list(prompts.values())

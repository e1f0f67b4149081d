"""Running one stage in a test, and reading what it left."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palate.data.jsonl import read_rows
from palate.pipeline.table import Stage
from palate.runs.record import RunPlan, read_record
from palate.runs.run import open_run_at


def ran(stage: Stage, directory: Path, name: str, seed: int = 1) -> Path:
    """The directory of a finished run of the stage called `name`."""
    stage.check()
    with open_run_at(directory, RunPlan(name, name, seed=seed)).active() as run:
        stage.run(run)
    return directory


def summary_of(directory: Path) -> dict[str, Any]:
    """What a run wrote to its summary."""
    found: dict[str, Any] = json.loads((directory / "summary.json").read_text())
    return found


def rows_of(directory: Path, file: str) -> list[dict[str, Any]]:
    """The rows of a file of a run."""
    return [dict(row) for _, row in read_rows(directory / file)]


def column_of(directory: Path, metric: str) -> list[float]:
    """A metric of every step that logged it."""
    return [row[metric] for row in rows_of(directory, "metrics.jsonl") if metric in row]


def dropped_of(directory: Path) -> Mapping[str, Mapping[str, int]]:
    """The rows that a run left out, by source and reason."""
    record = read_record(directory)
    assert record is not None
    return record.dropped

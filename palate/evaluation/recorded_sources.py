"""The files that a run read for a setting, and how, from its record: one file, or several sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pydantic import TypeAdapter

from palate.config.artifacts import file_at
from palate.data.data_sources import DataSource
from palate.data.formats import RECOGNISED, ColumnTypes
from palate.runs.record import RunRecord, parent_path, setting_at

SETTINGS = ("data", "preferences", "prompts", "held_out", "samples", "reference_samples", "replay", "demonstrations", "texts")
"""Settings that name one path or several sources."""

LISTS_OF_PATHS = {("refresh", "held_out"), ("refresh", "replay"), ("rules", "held_out")}
"""(stage, setting) of this name that hold a list of paths without names."""


@dataclass(frozen=True)
class RecordedSource:
    """A file that a run read, at most how many rows of it, what its columns held, and its name as one of several; "" where it was alone."""

    file: Path
    limit: int | None
    columns: ColumnTypes
    name: str = ""


def recorded_sources(directory: Path, record: RunRecord, setting: str, name: str) -> list[RecordedSource]:
    """Return what the run in `directory` read for a setting; [] where that names nothing. `name` is the file that a path to a run means."""
    columns: ColumnTypes = TypeAdapter(ColumnTypes).validate_python(record.config["columns"]) if "columns" in record.config else RECOGNISED
    limit = cast("int | None", record.config.get("limit"))
    found = []
    for parent in record.parents:
        if parent.field.split(".")[0] != setting:
            continue
        file = file_at(str(parent_path(directory, parent)), name)
        own = setting_at(record.config, parent.field.removesuffix(".path"))
        if isinstance(own, Mapping) or parent.field != setting:
            source = TypeAdapter(DataSource).validate_python(own) if isinstance(own, Mapping) else DataSource(str(own))
            found.append(RecordedSource(file, source.limit or limit, source.held(columns), source.called))
        else:
            found.append(RecordedSource(file, limit, columns))
    return found


def recorded_names(record: RunRecord) -> set[str]:
    """Return the names of the sources that a run read, where a setting named several."""
    names = set()
    for parent in record.parents:
        setting, _, number = parent.field.removesuffix(".path").rpartition(".")
        if number.isdigit() and setting.split(".")[-1] in SETTINGS and (record.stage, setting) not in LISTS_OF_PATHS:
            own = setting_at(record.config, f"{setting}.{number}")
            source = TypeAdapter(DataSource).validate_python(own) if isinstance(own, Mapping) else DataSource(str(own))
            names.add(source.called)
    return names

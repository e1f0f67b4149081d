"""Where a run keeps what later stages ask for, and what a path to it means."""

from __future__ import annotations

from pathlib import Path


def model_at(path: str) -> str:
    """The model directory that a path means: `model/` of a run directory, or its `adapter/`, else the path itself (or a hub's name)."""
    return next((str(inside) for inside in (Path(path) / "model", Path(path) / "adapter") if inside.is_dir()), path)


def file_at(path: str, name: str) -> Path:
    """The file that a path means: `name` in a run directory, else the path itself."""
    inside = Path(path) / name
    return inside if inside.is_file() else Path(path)

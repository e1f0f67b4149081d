"""What a path given in settings means: a run directory, or something inside one."""

from __future__ import annotations

from pathlib import Path


def model_at(path: str) -> str:
    """Return the model directory that a path means: `model/` or `adapter/` of a run directory, else the path or hub name itself."""
    return next((str(inside) for inside in (Path(path) / "model", Path(path) / "adapter") if inside.is_dir()), path)


def file_at(path: str, name: str) -> Path:
    """Return the file that a path means: `name` in a run directory, else the path itself."""
    inside = Path(path) / name
    return inside if inside.is_file() else Path(path)

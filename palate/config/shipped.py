"""The pipelines that come with Palate: files of `configs/`, beside the package in a checkout and inside it where it is installed."""

from __future__ import annotations

from pathlib import Path

from palate.config.settings import nearest
from palate.core import ConfigError

PLACES = (Path(__file__).parents[1] / "configs", Path(__file__).parents[2] / "configs")


def shipped_pipelines() -> dict[str, Path]:
    """Return the files by name, without `.yaml`; none where neither place is there."""
    folder = next((place for place in PLACES if place.is_dir()), None)
    return {} if folder is None else {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def shipped_pipeline(name: str) -> Path:
    """Return the file of a pipeline.

    Raises:
        ConfigError: no such pipeline comes with Palate.
    """
    files = shipped_pipelines()
    if name not in files:
        raise ConfigError(f"no pipeline {name!r} comes with Palate. {nearest(name, files)}")
    return files[name]

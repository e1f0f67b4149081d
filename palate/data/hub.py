"""Read Hugging Face datasets: directories of `save_to_disk`, and names on the hub. Needs the package `datasets`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol, cast

from palate.core import DataError
from palate.data.split_names import find_split

Rows = Iterable[object]

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(:\w+)?")
_FILE_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet", ".gz", ".txt")


def is_saved_dataset(directory: Path) -> bool:
    """Whether `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote the directory."""
    return (directory / "dataset_dict.json").is_file() or (directory / "state.json").is_file()


def looks_like_hub(name: str) -> bool:
    """Whether the name looks like owner/name or owner/name:split, and not like a mistyped path."""
    return _NAME.fullmatch(name) is not None and not name.endswith(_FILE_SUFFIXES) and not Path(name.partition("/")[0]).is_dir()


def load_saved(directory: Path) -> Rows:
    """Rows of a saved dataset, or of its training split if there are several.

    Raises:
        DataError: `datasets` is not installed, the directory is damaged, or not exactly one of several splits is for training.
    """
    datasets = _library(str(directory))
    import pyarrow as pa

    try:
        loaded = datasets.load_from_disk(str(directory))
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise DataError(f"{directory}: not a readable Hugging Face dataset ({error}). Save it again with save_to_disk.") from error
    return _of_split(loaded, str(directory), "give the split's own directory")


def load_hub(name: str) -> Rows:
    """Rows of owner/name:split, or of owner/name (its training split if there are several).

    Raises:
        DataError: `datasets` is not installed, the dataset cannot be loaded, or not exactly one of several splits is for training.
    """
    datasets = _library(name)
    dataset, _, split = name.partition(":")
    try:
        loaded = datasets.load_dataset(dataset, split=split or None)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{name}: there is no such local file or directory, and the Hugging Face hub did not return the dataset ({error}). "
            "Check the path, the name and the connection."
        ) from error
    return _of_split(loaded, name, "write owner/name:split")


def _of_split(loaded: Rows | Mapping[str, Rows], where: str, remedy: str) -> Rows:
    return loaded[find_split(list(loaded), where, remedy)] if isinstance(loaded, Mapping) else loaded


class _Datasets(Protocol):
    """The two functions that Palate uses of the package `datasets`, which types both as `Any`."""

    def load_from_disk(self, dataset_path: str) -> Rows | Mapping[str, Rows]: ...

    def load_dataset(self, path: str, *, split: str | None) -> Rows | Mapping[str, Rows]: ...


def _library(where: str) -> _Datasets:
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"{where}: Hugging Face datasets need the package `datasets`, which is not installed. Run: pip install datasets"
        ) from error
    return cast("_Datasets", datasets)

"""Read the rows of files and directories in any container: JSON lines, JSON, CSV, Parquet, Hugging Face datasets."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from palate.config.encoding import decoded
from palate.core import DataError
from palate.data.csv_table import csv_rows
from palate.data.hub import is_saved_dataset, load_hub, load_saved, looks_like_hub
from palate.data.jsonl import parse_cells, read_lines
from palate.data.plain_values import plain_row
from palate.data.split_names import find_split, split_of

READ = (
    "JSON lines (.jsonl), JSON (.json), CSV (.csv, .tsv), Parquet (.parquet), a directory of these, "
    "or a Hugging Face dataset (a directory, or owner/name)"
)
MOST_UNPACKED = 2**30
"""Most bytes that a packed file may hold if all of it is read at once. A file of a thousandth of the size can hold as much."""

PARQUET_ROWS = 64
"""Rows of a Parquet file that are unpacked at a time. A few bytes of its dictionary can be a long text in each row."""

_METADATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json"}
_PACKED = (".jsonl", ".json", ".csv", ".tsv")


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row of a file. `source` is path:row and `place` is file name:row. `fault` says why the row cannot be used ("" if it can)."""

    source: str
    place: str
    row: Mapping[str, object]
    fault: str = ""


def read_container(path: str | Path) -> Iterator[SourceRow]:
    """Every row of a file, a directory, or a dataset of the Hugging Face hub, with values as JSON has them.

    NaN is null, because that is how it is written where a value is missing. Dates become texts. Infinity stays, so that the reader of
    its field can name it.

    Args:
        path: the file, the directory, or owner/name on the hub.

    Raises:
        DataError: there is nothing at `path`, or a file of a format that Palate does not read.
    """
    place = Path(path)
    if place.is_dir():
        yield from _directory(place)
    elif place.exists():
        yield from _file(place, place.name)
    elif looks_like_hub(str(path)):
        yield from _plain(load_hub(str(path)), str(path), str(path))
    else:
        raise DataError(f"{path}: no such file or directory (looked from {Path.cwd()}). Give the path of {READ}.")


def _directory(directory: Path) -> Iterator[SourceRow]:
    if is_saved_dataset(directory):
        yield from _plain(load_saved(directory), str(directory), directory.name)
        return
    files = [
        file
        for file in sorted(directory.rglob("*"))
        if _kind(file) and file.name not in _METADATA and not any(part.startswith(".") for part in file.relative_to(directory).parts)
    ]
    kinds = sorted({_kind(file) for file in files})
    if len(kinds) != 1:
        content = f"files of {len(kinds)} kinds ({', '.join(kinds)})" if kinds else "no file that Palate reads"
        raise DataError(f"{directory}: holds {content}. Give one file, or a directory with files of one kind: {READ}.")
    by_split: dict[str, list[Path]] = {}
    for file in files:
        by_split.setdefault(split_of(file.relative_to(directory)), []).append(file)
    for file in by_split[find_split(list(by_split), str(directory), "name the file")]:
        yield from _file(file, file.relative_to(directory).as_posix())


def _kind(file: Path) -> str:
    """The suffix that says how to read a file, without `.gz`; "" if Palate does not read such files."""
    suffix = Path(file.stem).suffix if file.suffix == ".gz" else file.suffix
    return suffix if suffix in (_PACKED if file.suffix == ".gz" else (*_PACKED, ".parquet")) else ""


def _file(file: Path, name: str) -> Iterator[SourceRow]:
    kind = _kind(file)
    if kind == ".jsonl":
        yield from _json_lines(file, name)
    elif kind == ".json":
        yield from _json(file, name)
    elif kind in {".csv", ".tsv"}:
        for number, row, fault in csv_rows(_text(file), str(file), "\t" if kind == ".tsv" else None):
            yield SourceRow(f"{file}:{number}", f"{name}:{number}", row, fault)
    elif kind == ".parquet":
        yield from _plain(_parquet(file), str(file), name)
    else:
        raise DataError(f"{file}: Palate does not read files that end in {file.suffix or 'no suffix'!r}. Give {READ}.")


def _numbered(rows: Iterable[object], path: str, name: str) -> Iterator[SourceRow]:
    for number, row in enumerate(rows, start=1):
        if isinstance(row, dict):
            yield SourceRow(f"{path}:{number}", f"{name}:{number}", cast("dict[str, object]", row))
        else:
            yield SourceRow(f"{path}:{number}", f"{name}:{number}", {}, f"not a JSON object: {type(row).__name__}")


def _plain(rows: Iterable[object], path: str, name: str) -> Iterator[SourceRow]:
    """Rows of a library that has more types than JSON."""
    return _numbered((plain_row(row) for row in rows), path, name)


def _json_lines(file: Path, name: str) -> Iterator[SourceRow]:
    for number, line in enumerate(read_lines(file, parse_cells)):
        if number == 0 and line.fault.startswith("not a JSON object: list"):
            raise DataError(f"{file}:{line.number}: holds a JSON list, not an object. Write a list of rows to a file that ends in .json.")
        yield SourceRow(f"{file}:{line.number}", f"{name}:{line.number}", line.row, line.fault)


def _json(file: Path, name: str) -> Iterator[SourceRow]:
    content = _text(file)
    try:
        value = parse_cells(content)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # some exporters write one object per line under the name .json
            yield from _json_lines(file, name)
            return
        raise DataError(f"{file}:{error.lineno}: not JSON: {error.msg} at column {error.colno}. Correct the line.") from error
    except (ValueError, RecursionError) as error:
        problem = "not JSON: nested too deeply" if isinstance(error, RecursionError) else error
        raise DataError(f"{file}: {problem}. Correct it, or write one row per line as .jsonl.") from error
    rows = value.get("data") if isinstance(value, dict) else value
    if not isinstance(rows, list):
        content = f"an object with {', '.join(map(repr, value)) or 'nothing in it'}" if isinstance(value, dict) else type(value).__name__
        raise DataError(f"{file}: holds {content}. Give a list of rows, or an object with such a list under `data`.")
    yield from _numbered(rows, str(file), name)


def _text(file: Path) -> str:
    """The file's text. Raises DataError if it cannot be read or is not UTF-8."""
    try:
        content = _unpacked(file) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: cannot be read ({error}). Check its permissions, and that it is complete.") from error
    try:
        return decoded(content, str(file))
    except ValueError as error:
        raise DataError(str(error)) from error


def _unpacked(file: Path) -> bytes:
    """The content of a gzip file. Raises DataError if it is more than `MOST_UNPACKED`."""
    with gzip.open(file, "rb") as packed:
        content = packed.read(MOST_UNPACKED + 1)
    if len(content) > MOST_UNPACKED:
        raise DataError(
            f"{file}: unpacks to more than {MOST_UNPACKED} bytes. Unpack it, and write its rows as .jsonl, which is read line by line."
        )
    return content


def _parquet(file: Path) -> Iterator[object]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DataError(f"{file}: Parquet needs pyarrow, which is not installed. Run: pip install pyarrow") from error
    try:
        with pq.ParquetFile(file) as opened:
            for batch in opened.iter_batches(batch_size=PARQUET_ROWS):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file}: not a readable Parquet file ({error}). Write it again, or give another.") from error

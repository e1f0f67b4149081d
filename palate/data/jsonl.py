"""Rows as JSON lines: strict reading with line numbers, atomic writing, and a writer that goes on after a crash."""

from __future__ import annotations

import errno
import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from palate.core import DataError, RunError

Row = dict[str, object]

FSYNC_EVERY = 64
"""Rows between two syncs of a RowWriter; a crash of the machine loses at most so many."""

LONGEST_LINE = 64 * 2**20
"""Bytes of a line that is read; one that is longer (a damaged file, a bomb of gzip) would fill the memory."""

Parse = Callable[[str], object]
"""The JSON value in a text; raises ValueError where it holds none."""

_OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file: its number from 1, and the row, or why it is none (`fault` is empty when it is one)."""

    number: int
    row: Row
    fault: str = ""


def read_lines(path: Path, parse: Parse | None = None) -> Iterator[Line]:
    """Each line that is not blank, faulty ones included. A name that ends in `.gz` is read as gzip.

    Args:
        path: the file.
        parse: JSON value of a text; by default `parse_json`, which refuses NaN and Infinity.

    Raises:
        DataError: the file cannot be opened or unpacked, or a line is longer than `LONGEST_LINE`.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, raw in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), start=1):
                if len(raw) > LONGEST_LINE:
                    raise DataError(
                        f"{path}:{number}: the line is longer than {LONGEST_LINE} bytes. Is it JSON lines? Write one row a line."
                    )
                content = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
                if not content.isspace() and content:
                    yield _line(number, content, parse or parse_json)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}). Check that it exists, is a file, and may be read.") from error


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """(line number, row) of each line that is not blank.

    Raises:
        DataError: the file cannot be read, or a line is not one JSON object; the message names the line.
    """
    for line in read_lines(path):
        if line.fault:
            raise DataError(f"{path}:{line.number}: {line.fault}. Correct the line or take it out; each must hold one JSON object.")
        yield line.number, line.row


def parse_object(text: str) -> Row:
    """The JSON object in `text`; NaN and Infinity are refused, which JSON does not have.

    Raises:
        ValueError: it is not one; the message says why (a json.JSONDecodeError where the syntax is wrong).
    """
    return _object(parse_json(text))


def parse_json(text: str) -> object:
    """The JSON value in `text`; NaN and Infinity are refused. Raises ValueError as `parse_object` does."""
    return json.loads(text, parse_constant=_refuse_constant)


def write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> int:
    """Number of rows written. `path` holds all of them afterwards, or its former content when writing fails.

    Raises:
        DataError: a row holds a number that is not finite, or a value JSON does not have.
        RunError: no space is left.
    """
    neighbour = path.with_name(f".{path.name}.{os.getpid()}")
    count = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with neighbour.open("wb") as file:
            for count, row in enumerate(rows, start=1):
                file.write(_encoded(path, count, row))
            file.flush()
            os.fsync(file.fileno())
        neighbour.replace(path)
        _sync_directory(path.parent)
    except OSError as error:
        neighbour.unlink(missing_ok=True)
        _raise_for_space(path, error)
    except BaseException:
        neighbour.unlink(missing_ok=True)
        raise
    return count


class RowWriter:
    """Appends rows to a file and goes on where a killed process stopped.

    On opening, a half-written last line is cut off. Rows reach the file one by one and the disk every `sync_every` rows
    and on `close`. Use as a context, or call `close`.

    Attributes:
        rows_done: rows in the file, those of former processes included.
    """

    def __init__(self, path: Path, *, sync_every: int = FSYNC_EVERY) -> None:
        self._path, self._sync_every, self._unsynced = path, sync_every, 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: after a failed write no bytes wait in memory that a later close would write out of order.
            self._file = path.open("a+b", buffering=0)
        except OSError as error:
            _raise_for_space(path, error)
        self.rows_done, self._size = self._repair()

    def append(self, row: Mapping[str, object]) -> None:
        """Nothing; the row stands at the end of the file.

        Raises:
            DataError: it holds a number that is not finite, or a value JSON does not have; the file is unchanged.
            RunError: no space is left; the rows before stand.
        """
        data = _encoded(self._path, self.rows_done + 1, row)
        try:
            written = 0
            while written < len(data):
                written += self._file.write(data[written:]) or 0
            self.rows_done += 1
            self._size += len(data)
            self._unsynced += 1
            if self._unsynced >= self._sync_every:
                self._sync()
        except OSError as error:
            self._cut(self._size)
            _raise_for_space(self._path, error)

    def close(self) -> None:
        """Nothing; all rows are on the disk."""
        if self._file.closed:
            return
        try:
            if self._unsynced:
                self._sync()
        except OSError as error:
            _raise_for_space(self._path, error)
        finally:
            self._file.close()

    def __enter__(self) -> Self:
        """The writer itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Nothing; the writer is closed."""
        self.close()

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._unsynced = 0

    def _repair(self) -> tuple[int, int]:
        """(rows, bytes) of the file after its last line was completed or cut off."""
        if not self._path.is_file():  # a pipe or a device has no rows to go on from
            return 0, 0
        rows, size, last = 0, 0, b""
        with self._path.open("rb") as file:
            for last in file:
                size += len(last)
                rows += not last.isspace()
        if not last or last.endswith(b"\n"):
            return rows, size
        if _line(rows, last, parse_json).fault:  # an object is whole when its last brace is there; anything else was cut off
            self._cut(size - len(last))
            return rows - (not last.isspace()), size - len(last)
        self._file.write(b"\n")
        return rows, size + 1

    def _cut(self, size: int) -> None:
        try:
            self._file.truncate(size)
        except OSError:  # not a plain file; the next opening cuts the half line
            return


def _object(value: object) -> Row:
    if not isinstance(value, dict):
        raise ValueError(f"not a JSON object: {type(value).__name__}")
    return value


def _line(number: int, raw: bytes, parse: Parse) -> Line:
    try:
        return Line(number, _object(parse(raw.decode("utf-8").rstrip("\r\n"))))
    except UnicodeDecodeError as error:
        return Line(number, {}, f"not UTF-8: byte {error.start + 1} of the line")
    except json.JSONDecodeError as error:
        return Line(number, {}, f"not JSON: {error.msg} at character {error.pos + 1}")
    except ValueError as error:
        fault = str(error)  # ours, or Python's about a number of too many digits
        return Line(number, {}, fault if fault.startswith("not ") else f"not JSON: {fault}")
    except RecursionError:
        return Line(number, {}, "not JSON: nested too deeply")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"not JSON: {name} is no JSON number")


def _encoded(path: Path, number: int, row: Mapping[str, object]) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"
    except (TypeError, ValueError) as error:  # UnicodeEncodeError (a lone surrogate) is a ValueError
        columns = ", ".join(name for name, value in row.items() if not _is_json(value))
        raise DataError(
            f"{path}: row {number} cannot be written as JSON, column {columns}: {error}. "
            "Give finite numbers, strings, lists and mappings; leave a missing number out."
        ) from error


def _is_json(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except (TypeError, ValueError):
        return False
    return True


def _raise_for_space(path: Path, error: OSError) -> NoReturn:
    """Raises RunError when the disk is full, `error` itself otherwise."""
    if error.errno in _OUT_OF_SPACE:
        raise RunError(
            f"no space left on the device of {path}; what was written before stands. Free space and run the same command."
        ) from error
    raise error


def _sync_directory(directory: Path) -> None:
    """Nothing; the directory's entries are on the disk, where the system can say so."""
    try:
        handle = os.open(directory, os.O_RDONLY)
    except PermissionError:  # Windows opens no directories
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

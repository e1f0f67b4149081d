"""Read and write rows as JSON lines: strictly, atomically, or with a writer that continues after a crash."""

from __future__ import annotations

import errno
import gzip
import json
import math
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from palate.config.encoding import HEAD, foreign_content
from palate.core import OUT_OF_SPACE, DataError, RunError
from palate.data.files import FileFields

Row = dict[str, object]

FSYNC_EVERY = 64
"""Rows between two syncs of a RowWriter, and so the most rows that a crash of the machine loses."""

LONGEST_LINE = 64 * 2**20
"""The most bytes of a line. A longer one (a damaged file, a gzip bomb) could fill the memory."""

Parse = Callable[[str], object]
"""Parses the JSON value in a text; raises ValueError if there is none."""

_CONSTANTS: Mapping[str, float | None] = {"NaN": None, "Infinity": math.inf, "-Infinity": -math.inf}
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file: its number from 1, and the row. `fault` says why the line is not a row ("" if it is one)."""

    number: int
    row: Row
    fault: str = ""


def read_lines(path: Path, parse: Parse | None = None) -> Iterator[Line]:
    """Yield each line that is not blank, including those with a fault. A file whose name ends in `.gz` is read as gzip.

    Args:
        path: the file.
        parse: parses the JSON text of a line; the default, `parse_json`, refuses NaN and Infinity.

    Raises:
        DataError: the file cannot be opened or unpacked, is not UTF-8 text, or a line is longer than `LONGEST_LINE`.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, raw in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), start=1):
                if len(raw) > LONGEST_LINE:
                    raise DataError(
                        f"{path}:{number}: the line is longer than {LONGEST_LINE} bytes. Is it JSON lines? Write one row per line."
                    )
                if number == 1 and (problem := foreign_content(raw[:HEAD])):
                    raise DataError(f"{path}:1: {problem}.")
                content = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
                if not content.isspace() and content:
                    yield _line(number, content, parse or parse_json)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}). Check that it exists, is a file, and has the right permissions.") from error


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield (line number, row) of each line that is not blank.

    Raises:
        DataError: the file cannot be read, or a line is not one JSON object; the message names the line. So does that of a row which is
            asked for a field that it lacks (`MissingFieldError`).
    """
    for line in read_lines(path):
        if line.fault:
            raise DataError(f"{path}:{line.number}: {line.fault}. Correct the line or take it out; each line must hold one JSON object.")
        yield line.number, FileFields.read(line.row, (path, line.number))


def parse_object(text: str) -> Row:
    """The JSON object in `text`.

    Raises:
        ValueError: the text is not a JSON object, or holds NaN or Infinity (json.JSONDecodeError if the syntax is wrong).
    """
    return _object(parse_json(text))


def parse_json(text: str) -> object:
    """The JSON value in `text`. Raises ValueError as `parse_object` does."""
    return json.loads(text, parse_constant=_refuse_constant)


def parse_cells(text: str) -> object:
    """The JSON value in `text` as data sets have it: NaN is null, and Infinity passes, so that the reader of its field can name it."""
    return json.loads(text, parse_constant=_CONSTANTS.__getitem__)


def write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> int:
    """Write all rows to `path` in one step and return their number. If writing fails, `path` keeps its former content.

    Raises:
        DataError: a row holds a number that is not finite, or a value that JSON does not have.
        RunError: there is no space left, or the file cannot be written.
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
        with suppress(OSError):
            neighbour.unlink()
        _raise_for_writing(path, error)
    except BaseException:
        neighbour.unlink(missing_ok=True)
        raise
    return count


class RowWriter:
    """Append rows to a file, and continue where a killed process stopped.

    Opening the file cuts off a half-written last line. Rows reach the file one by one, and the disk every `sync_every` rows
    and on `close`. Use it as a context manager, or call `close`.

    Attributes:
        rows_done: rows in the file, including those of earlier processes.
    """

    def __init__(self, path: Path, *, sync_every: int = FSYNC_EVERY) -> None:
        self._path, self._sync_every, self._unsynced = path, sync_every, 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: after a failed write no bytes wait in memory that a later close would write out of order.
            self._file = path.open("a+b", buffering=0)
        except OSError as error:
            _raise_for_writing(path, error)
        self.rows_done, self._size = self._repair()

    def append(self, row: Mapping[str, object]) -> None:
        """Append the row to the file.

        Raises:
            DataError: it holds a number that is not finite, or a value that JSON does not have; the file is unchanged.
            RunError: there is no space left; the earlier rows are kept.
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
            _raise_for_writing(self._path, error)

    def close(self) -> None:
        """Sync all rows to the disk and close the file."""
        if self._file.closed:
            return
        try:
            if self._unsynced:
                self._sync()
        except OSError as error:
            _raise_for_writing(self._path, error)
        finally:
            self._file.close()

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the writer."""
        self.close()

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._unsynced = 0

    def _repair(self) -> tuple[int, int]:
        """Complete or cut off the last line. Returns (rows, bytes) of the file."""
        if not self._path.is_file():  # a pipe or a device does not keep rows
            return 0, 0
        rows, size, last = 0, 0, b""
        with self._path.open("rb") as file:
            for last in file:
                size += len(last)
                rows += not last.isspace()
        if not last or last.endswith(b"\n"):
            return rows, size
        if _line(rows, last, parse_json).fault:  # an object is complete if its last brace is there; anything else was cut off
            self._cut(size - len(last))
            return rows - (not last.isspace()), size - len(last)
        self._file.write(b"\n")
        return rows, size + 1

    def _cut(self, size: int) -> None:
        try:
            self._file.truncate(size)
        except OSError:  # not a plain file; the next opening cuts off the half-written line
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
        fault = str(error)  # Palate's, or Python's about a number with too many digits
        return Line(number, {}, fault if fault.startswith("not ") else f"not JSON: {fault}")
    except RecursionError:
        return Line(number, {}, "not JSON: nested too deeply")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"not JSON: {name} is not a JSON number")


def _encoded(path: Path, number: int, row: Mapping[str, object]) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"
    except (TypeError, ValueError) as error:  # UnicodeEncodeError (a lone surrogate) is a ValueError
        columns = ", ".join(name for name, value in row.items() if not _is_json(value))
        raise DataError(
            f"{path}: row {number} cannot be written as JSON, column {columns}: {error}. "
            "Give finite numbers, strings, lists and mappings. Leave out a missing number."
        ) from error


def _is_json(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except (TypeError, ValueError):
        return False
    return True


def _raise_for_writing(path: Path, error: OSError) -> NoReturn:
    """Raise RunError if the disk is full or nobody may write there, and `error` itself otherwise."""
    if error.errno in OUT_OF_SPACE:
        raise RunError(
            f"no space left on the device of {path}. Earlier rows are kept. Free some space and run the same command."
        ) from error
    place = Path(error.filename or path)  # rows that are read meanwhile have files of their own
    if error.errno in _REFUSED and (place.parent == path.parent or place in path.parents):
        raise RunError(f"{path} cannot be written ({os.strerror(error.errno)}). Name a folder in which you may write.") from error
    raise error


def _sync_directory(directory: Path) -> None:
    """Sync the directory's entries to the disk, if the system can do that."""
    try:
        handle = os.open(directory, os.O_RDONLY)
    except PermissionError:  # Windows does not open directories
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

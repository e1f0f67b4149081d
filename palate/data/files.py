"""Write and read small files so that a crash leaves either the old content or the new one."""

from __future__ import annotations

import json
import os
from pathlib import Path

from palate.core import DataError, RunError


class MissingFieldError(DataError, KeyError):
    """A row or a JSON object that was read from a file lacks a field. It is a KeyError too, for who expects that."""

    def __str__(self) -> str:
        """The message as it is: a KeyError would quote it."""
        return str(self.args[0])


class FileFields(dict[str, object]):
    """A JSON object that knows where it was read: a field that it lacks is an error of the file, with its place, and none of the program.

    Attributes:
        place: the file, and the line of a row.
    """

    __slots__ = ("place",)
    place: str | tuple[Path, int]

    @classmethod
    def read(cls, value: dict[str, object], place: str | tuple[Path, int]) -> FileFields:
        """Return the object with its place."""
        fields = cls(value)
        fields.place = place
        return fields

    def __missing__(self, name: str) -> object:
        """Raise MissingFieldError: nothing stands there."""
        place = self.place if isinstance(self.place, str) else f"{self.place[0]}:{self.place[1]}"
        raise MissingFieldError(
            f"{place}: there is no {name!r}. Was it changed, or written by another version of Palate? Make the file again."
        )


def write_atomic(path: Path, text: str) -> None:
    """Write `text` to `path`, which keeps its former content if writing fails (a full disk, a kill).

    The text goes to a temporary file beside `path`, is synced, and takes the name in one step.
    """
    neighbour = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with neighbour.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        neighbour.replace(path)
    except BaseException:
        neighbour.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: object) -> None:
    """Write `value` to `path` as indented JSON, atomically. Raises RunError for a number that is not finite, or another non-JSON value."""
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RunError(f"{path}: cannot be written as JSON: {error}. Give finite numbers, strings, lists and mappings.") from error
    write_atomic(path, text + "\n")


def read_json(path: Path) -> object:
    """The JSON value in `path`.

    Raises:
        RunError: the file is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_hook=lambda value: FileFields.read(value, str(path)))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RunError(f"{path} is not readable as JSON ({error}). Restore it, or delete its directory and run again.") from error

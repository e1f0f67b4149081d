"""Follow a file of JSON lines to which another process appends: only what is new is read."""

from __future__ import annotations

from pathlib import Path

from palate.data.jsonl import Row, parse_object

TAIL = 256
"""Bytes before the place of reading that must still be the same. A run that resumes writes its files anew."""


class AppendedRows:
    """The rows of a file that grows.

    Attributes:
        fault: what is wrong with the first line that is not a row; "" where there is none. Such lines are left out.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place, self._line = 0, 0
        self._tail = b""
        self.fault = ""

    def take(self) -> tuple[bool, list[Row]]:
        """Return whether the file begins anew, and the rows since the last call; of a file that begins anew, all rows.

        A last line that is not complete yet is left for a later call. A file that does not exist has no rows.
        """
        is_new, rows = False, list[Row]()
        try:
            with self._path.open("rb") as file:
                file.seek(self._place - len(self._tail))
                if file.read(len(self._tail)) != self._tail:
                    is_new = self._begin()
                    file.seek(0)
                for raw in file:
                    if not raw.endswith(b"\n"):
                        break
                    self._place += len(raw)
                    self._line += 1
                    self._tail = raw[-TAIL:]
                    rows += self._rows(raw)
        except FileNotFoundError:
            is_new = self._place > 0 and self._begin()
        return is_new, rows

    def _begin(self) -> bool:
        self._place, self._line, self._tail, self.fault = 0, 0, b"", ""
        return True

    def _rows(self, raw: bytes) -> list[Row]:
        try:
            return [parse_object(raw.decode("utf-8"))] if raw.strip() else []
        except (ValueError, RecursionError) as error:
            self.fault = self.fault or f"line {self._line} of {self._path.name} is not a row: {error}"
            return []

"""Keys of the serving API: only their hashes are on the disk. And how often somebody may ask."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from palate.core import ConfigError, DataError
from palate.data.cells import InvalidRow, filled
from palate.data.jsonl import RowWriter, read_rows
from palate.web.credentials import hashed

USE = "serve"
"""What the hash of a key is for, so that it works nowhere else."""

MOST_CALLERS = 10_000
"""Callers whose requests are counted at a time; the one that was quiet longest is forgotten."""


class ApiKeys:
    """The keys in a file. One that is added while the server runs works at once; one whose line is taken out stops working."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            DataError: it cannot be read, or a line is not a key's.
        """
        self._path, self._changed = path, 0.0
        self._names: dict[str, str] = {}
        self._read()

    def name_of(self, key: str) -> str | None:
        """Return the name of a key, or None if it is unknown."""
        if self._path.stat().st_mtime != self._changed:
            self._read()
        return self._names.get(hashed(key, USE))

    def _read(self) -> None:
        if not self._path.is_file():
            raise DataError(f"{self._path} does not exist. Make a first key with --new_key NAME.")
        changed, names = self._path.stat().st_mtime, dict[str, str]()
        for number, row in read_rows(self._path):
            try:
                names[filled(row.get("hash"), "hash")] = filled(row.get("name"), "name")
            except InvalidRow as error:
                raise DataError(f"{self._path}:{number}: {error.reason}. Make keys with --new_key NAME.") from error
        self._names, self._changed = names, changed


def add_key(path: Path, name: str, token: Callable[[], str] = lambda: secrets.token_urlsafe(32)) -> str:
    """Add a key to the file, and return it; it can never be read again.

    Raises:
        ConfigError: the name is empty or taken.
    """
    if not name.strip() or not name.isprintable() or len(name) > 64:
        raise ConfigError("--new_key: a name has 1 to 64 printable characters")
    if path.is_file() and name in {row.get("name") for _, row in read_rows(path)}:
        raise ConfigError(f"--new_key: {path} has a key of {name!r} already. Choose another name, or take its line out first.")
    key = f"palate-{token()}"
    with RowWriter(path) as rows:
        rows.append({"name": name, "hash": hashed(key, USE)})
    path.chmod(0o600)
    return key


class RequestRate:
    """Allows each caller a number of requests per minute. Who was quiet may send that many at once."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        if per_minute < 1:
            raise ConfigError(f"rate is {per_minute}: allow at least one request per minute, or leave it out")
        self._per_minute, self._clock = per_minute, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_seconds(self, caller: str) -> float:
        """Count a request; return 0 where it is allowed, else after how many seconds the next one is."""
        now = self._clock()
        left, since = self._left.pop(caller, (float(self._per_minute), now))
        left = min(left + (now - since) * self._per_minute / 60, self._per_minute)
        is_allowed = left >= 1
        self._left[caller] = left - is_allowed, now
        if len(self._left) > MOST_CALLERS:
            self._left.popitem(last=False)
        return 0.0 if is_allowed else (1 - left) * 60 / self._per_minute

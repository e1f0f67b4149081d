"""Digests of content: they identify a run's inputs whatever the files are called."""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from palate.core import RunError
from palate.data.files import write_json

DIGEST_LENGTH = 12
CACHED_BYTES = 16 * 2**20
"""The cache keeps digests of files from this size on; smaller files are read again, which is cheap."""
SETTLED_SECONDS = 2.0
"""The cache leaves out a file changed more recently: a second change might leave its size and time as they were."""


@dataclass
class DigestCache:
    """Keeps digests of large files by path, size and time of change, in one JSON file.

    Attributes:
        path: the JSON file; None keeps the digests only while the process lives.
    """

    path: Path | None = None
    _known: dict[str, str] = field(default_factory=dict)
    _loaded: bool = False

    def file(self, path: Path) -> str:
        """Return the SHA-256 of the file's content, in hex."""
        stat = path.stat()
        if stat.st_size < CACHED_BYTES:
            return _sha256(path)
        self._load()
        mark = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
        if mark not in self._known:
            digest = _sha256(path)
            if time.time() - stat.st_mtime < SETTLED_SECONDS:
                return digest
            self._known[mark] = digest
            if self.path is not None:
                with suppress(OSError):  # what cannot be kept is computed again
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    write_json(self.path, self._known)
        return self._known[mark]

    def content(self, path: Path) -> str:
        """Return the first 12 hex digits of the digest of a file or a directory.

        A directory's digest covers its sorted relative names and their contents.

        Raises:
            RunError: there is nothing at `path`.
        """
        if path.is_file():
            return self.file(path)[:DIGEST_LENGTH]
        if not path.is_dir():
            raise RunError(f"{path} is neither a file nor a directory. Correct the path.")
        total = hashlib.sha256()
        for name, file in sorted((file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file()):
            total.update(f"{name}\0{self.file(file)}\0".encode())
        return total.hexdigest()[:DIGEST_LENGTH]

    def _load(self) -> None:
        if self._loaded or self.path is None or not self.path.is_file():
            self._loaded = True
            return
        try:
            known = json.loads(self.path.read_text(encoding="utf-8"))
            self._known.update({str(mark): str(digest) for mark, digest in known.items()})
        except (ValueError, AttributeError):
            self._known.clear()  # a damaged cache costs time, never a wrong key
        self._loaded = True


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

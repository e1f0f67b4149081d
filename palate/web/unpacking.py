"""Unpack a Parquet file to JSON lines, in a process of its own that can use only so much memory, time and disk.

A Parquet file of a thousand bytes can hold a text a thousand times (as a page of its dictionary), or a page that unpacks to two gigabytes.
What its metadata says of its size is the sender's word. So the server does not open such a file itself: it runs this module, and reads
what comes out. A file that crashes the reader crashes this process only.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

from palate.core import DataError

MEMORY_BYTES = 512 * 2**20
"""Memory that the process may take beyond what it takes to start."""

SECONDS = 120
"""Time that the process may take."""

_REFUSED, _TOO_LARGE = 3, 4
"""Exit codes: the file is at fault (standard error says why), or it unpacks to more than it may."""


def unpack(file: Path, lines: Path, most_bytes: int) -> None:
    """Write the rows of a Parquet file to `lines`, one per line, in the order of the file.

    Raises:
        DataError: the file cannot be read, or unpacks to more than `most_bytes` of JSON.
    """
    # With one arena and the system's allocator, the memory that the process asks for is what it uses.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1", "ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "palate.web.unpacking", str(file), str(lines), str(most_bytes)]
    try:
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{file}: could not be unpacked in {SECONDS} seconds. Give the rows as .jsonl, in several files.") from error
    if done.returncode == _REFUSED:
        raise DataError(done.stderr.decode("utf-8", "replace").strip())
    if done.returncode:
        raise DataError(
            f"{file}: unpacks to more than {most_bytes} bytes, which is the most that an upload may hold. "
            "Give it in several files, or start the server with --items."
        )


def main(file: str, lines: str, most_bytes: int) -> int:
    """Unpack, within limits, and return the exit code."""
    from palate.data.containers import read_container

    with contextlib.suppress(ImportError):  # the reader says that it is missing
        import pyarrow as pa
        import pyarrow.parquet

        pa.set_cpu_count(1)  # each thread would reserve memory
        pa.set_io_thread_count(1)
    _limit()
    written = 0
    try:
        with Path(lines).open("w", encoding="utf-8") as output:
            for row in read_container(file):
                written += output.write(json.dumps(dict(row.row), default=str) + "\n")
                if written > most_bytes:
                    return _TOO_LARGE
    except DataError as error:
        is_memory = "alloc" in str(error)
        if not is_memory:
            sys.stderr.write(str(error))
        return _TOO_LARGE if is_memory else _REFUSED
    except MemoryError:
        return _TOO_LARGE
    return 0


def _limit() -> None:
    """Limit what this process may use from here on, as far as the system can."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    status = Path("/proc/self/statm")
    if status.exists():
        most = int(status.read_text().split()[0]) * resource.getpagesize() + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))

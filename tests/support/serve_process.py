"""`palate serve` as a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import warm_python
from tests.support.waiting import ended, wait_until


@contextmanager
def serve_process(model: Path, log: Path, *words: object) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A running `palate serve`, and its address, until the end of the block. What it says goes to the file `log`."""
    command = [warm_python.executable(), "-m", "palate", "serve", str(model), "--port", "0", *map(str, words)]
    with log.open("w") as output:
        started = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"})

    def address() -> re.Match[str] | None:
        said = log.read_text()
        assert started.poll() is None, said
        return re.search(rf"serves {re.escape(model.name)} at (http://[^/]+)/v1", said)

    try:
        yield started, wait_until(address, log.read_text)[1]
    finally:
        started.kill()
        ended(started)

"""A server of Palate in a process of its own, which a benchmark starts, loads and kills."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path


class StartedServer:
    """A process of a `palate` command that serves. After it was killed it can be started again, and its port stays the same."""

    def __init__(self, *words: str) -> None:
        """Take the words after `palate`, without the port."""
        self._words = words
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    def start(self) -> None:
        """Start it, and return when it listens. Raises RuntimeError where it ends before that."""
        command = [sys.executable, "-m", "palate", *self._words, "--port", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if match := re.search(r"at http://[^:/]+:(\d+)", line):
                self.port = int(match.group(1))
                return
        raise RuntimeError(f"palate {self._words[0]} did not start")

    def kill(self) -> None:
        """Kill it with SIGKILL, if it was started."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def processor(self) -> float:
        """Return the seconds of processor time used so far, on Linux."""
        assert self._process is not None
        spent = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(spent[11]) + int(spent[12])) / os.sysconf("SC_CLK_TCK")

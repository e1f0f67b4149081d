"""A server of Palate in a process of its own, which a benchmark starts, loads and kills."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

from palate.cli import main as main_command


class StartedServer:
    """A `palate` command that serves, forked from a process that has loaded torch. After it was killed it can be started again."""

    def __init__(self, *words: str) -> None:
        """Take the words after `palate`, without the port. It gets a free one, which stays the same."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self._words = [*words, "--port", str(self.port)]
        self._context = get_context("forkserver")
        self._context.set_forkserver_preload(["palate.serving.server"])
        self._process: BaseProcess | None = None

    def start(self) -> None:
        """Start it, and return when it listens. Raises RuntimeError where it ends before that."""
        self._process = self._context.Process(target=serve_quietly, args=(self._words,), daemon=True)
        self._process.start()
        while self._process.is_alive():
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise RuntimeError(f"palate {self._words[0]} did not start")

    def kill(self) -> None:
        """Kill it with SIGKILL, if it was started."""
        if self._process is not None:
            self._process.kill()
            self._process.join()

    def processor(self) -> float:
        """Return the seconds of processor time used so far, on Linux."""
        assert self._process is not None
        assert self._process.pid is not None
        return time.clock_gettime((~self._process.pid << 3) | 2)  # the kernel's number for the clock of a process


def serve_quietly(words: Sequence[str]) -> None:
    """Run the command without its words on the terminal."""
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        main_command(list(words))

"""One process per run directory, and Ctrl-C: the first asks the run to stop, the second stops it at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from palate.core import RunError
from palate.core.process import place


class Stop:
    """Whether the user asked to stop."""

    def __init__(self) -> None:
        self.is_requested = False

    def request(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 (the form Python asks of a handler)
        """Handle a signal: the first asks to stop, the second raises KeyboardInterrupt.

        A launcher of several ranks passes Ctrl-C on as SIGTERM, which they had too. So there only Ctrl-C counts as the second.
        """
        if self.is_requested:
            if signum == signal.SIGTERM and place().world > 1:
                return
            raise KeyboardInterrupt
        self.is_requested = True
        # Not through sys.stderr: the signal may arrive while something writes to it.
        os.write(2, b"\nStopping after this step, which will be saved. Press Ctrl-C again to stop at once.\n")


@contextmanager
def stoppable(stop: Stop) -> Iterator[None]:
    """A context in which SIGINT and SIGTERM set `stop`. Off the main thread, where Python forbids handlers, it does nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.signal(signum, stop.request) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """A context that only one process can enter per directory. A kill frees it too.

    Raises:
        RunError: another process is inside.
    """
    if sys.platform == "win32":  # without flock, nobody notices two processes in one directory
        yield
        return
    import fcntl

    with (directory / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(f"another process is working in {directory}. Wait for it or stop it, then repeat the command.") from error
        yield

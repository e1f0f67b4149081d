"""One process per run directory, and Ctrl-C: the first asks the run to stop, the second stops it at once."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from palate.core import RunError
from palate.core.process import place

LOCK = ".lock"
"""The file that a process locks while it works in a run directory. It says who that process is."""


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
    """A context in which SIGINT and SIGTERM set `stop`. Off the main thread, where Python forbids handlers, it does nothing.

    After an error on one of several ranks SIGTERM is ignored: a launcher sends it as soon as one rank has ended, and the others still have
    to say why they end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.signal(signum, stop.request) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except BaseException:
        if place().world > 1:
            before[signal.SIGTERM] = signal.SIG_IGN
        raise
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

    with (directory / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(f"another process is working in {directory}. Wait for it or stop it, then repeat the command.") from error
        file.truncate(0)
        file.write(json.dumps({"where": _where(), "process": os.getpid(), "started": _started(os.getpid())}) + "\n")
        file.flush()
        yield


def is_at_work(directory: Path) -> bool | None:
    """Return whether the process that locked the run directory last still exists.

    It only reads, so it keeps no process from the run. None where that is not known: the process is on another machine or in another
    container, or nobody wrote down who it is.
    """
    try:
        holder = json.loads((directory / LOCK).read_text())
        process, started = int(holder["process"]), str(holder["started"])
        if holder["where"] != _where():
            return None
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return started == _started(process)


def _where() -> list[str]:
    """What tells machines and containers apart: a number of a process means the same process inside one only."""
    try:
        return [socket.gethostname(), str(Path("/proc/self/ns/pid").readlink())]
    except OSError:  # not Linux
        return [socket.gethostname()]


def _started(process: int) -> str:
    """When a process started, in the system's ticks, because numbers of processes are used again; "" where the system does not say."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""

"""A user's function in a process of its own, so that whatever it does ends at the deadline.

A thread cannot be stopped from outside, and a function that holds the interpreter's lock (a regular expression that runs away, a loop in
C) would stop the whole run. A process can be killed, and what it breaks is its own.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import weakref
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import cast

from palate.core import ConfigError
from palate.rewards.batch import PartScores, ScoringBatch
from palate.rewards.common import Score
from palate.rewards.worker import Job, Setup

STARTUP_SECONDS = 120.0
"""A module may load a model while it is imported."""

GOODBYE_SECONDS = 2.0
"""A process that hung up is about to end; its own exit code says more than that of a kill."""


class FunctionProcess:
    """A function that scores batches in a process of its own; the process is started again after it had to be killed."""

    def __init__(self, name: str, setup: Setup, deadline: float) -> None:
        """Starts the process.

        Args:
            name: the part's name, for messages.
            setup: the function.
            deadline: seconds a batch.

        Raises:
            ConfigError: the function cannot be imported or called.
        """
        self._name, self._setup, self._deadline = name, setup, deadline
        self._child = _Child()
        self._begin()

    def score(self, batch: ScoringBatch) -> PartScores:
        """Scores of all completions; those without an answer at the deadline have that as their reason."""
        if not self._child.alive:
            self._child = _Child()
            self._begin()
        pairs = batch.each
        scores: list[Score | None] = [None] * len(pairs)
        until = time.monotonic() + self._deadline
        job = Job([prompt.text for prompt, _ in pairs], [completion.text for _, completion in pairs], batch.columns)
        try:
            self._child.connection.send(job)
            while (found := cast("tuple[int, Score] | None", self._child.receive(until))) is not None:
                scores[found[0]] = found[1]
            missing = "gave no score"
        except TimeoutError:
            self._child.stop()
            missing = f"gave no score within {self._deadline:g} s (deadline)"
        except (EOFError, OSError):
            missing = f"its process ended with code {self._child.ended()}"
        return PartScores.of([missing if score is None else score for score in scores])

    def close(self) -> None:
        """Nothing; ends the process."""
        self._child.stop()

    def _begin(self) -> None:
        try:
            self._child.connection.send(self._setup)
            refusal = self._child.receive(time.monotonic() + STARTUP_SECONDS)
        except TimeoutError:
            refusal = f"{self._setup.function!r} is not imported after {STARTUP_SECONDS:g} s"
        except (EOFError, OSError):
            refusal = f"{self._setup.function!r} ended its process while it was imported, with code {self._child.ended()}"
        if refusal:
            self._child.stop()
            raise ConfigError(f"rewards.{self._name}: {refusal}")


class _Child:
    """The process and our end of the connection."""

    def __init__(self) -> None:
        self.connection, theirs = multiprocessing.Pipe()
        # A session of its own: what the function starts is killed with it, and Ctrl-C goes to the run alone.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "palate.rewards.worker", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or str(os.curdir) for path in sys.path)},
            start_new_session=True,
        )
        theirs.close()
        self._end = weakref.finalize(self, _kill, self.process, self.connection)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def receive(self, until: float) -> object:
        """What the process says next. Raises TimeoutError, or EOFError where it ended."""
        if not self.connection.poll(max(until - time.monotonic(), 0)):
            raise TimeoutError
        return self.connection.recv()

    def ended(self) -> int | None:
        """The exit code of a process that has hung up; killed if it does not end by itself."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(GOODBYE_SECONDS)
        return self.stop()

    def stop(self) -> int | None:
        """The exit code; kills the process and all it started, if it still runs."""
        self._end()
        return self.process.returncode


def _kill(process: subprocess.Popen[bytes], connection: Connection) -> None:
    connection.close()
    if process.poll() is not None:
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()

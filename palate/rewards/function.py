"""A part of a reward from a Python function of the user's, which runs in a process of its own so that it ends at the timeout.

A thread cannot be stopped from outside. A function that holds the interpreter's lock (a regular expression that backtracks forever, a
loop in C) would stop the whole run. A process can be killed, and it can only break itself.
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
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Literal, cast

from palate.config.answers import Score
from palate.config.function_source import source_of
from palate.config.live_objects import is_live
from palate.config.types import FunctionInput
from palate.core import ConfigError, TrainingError
from palate.rewards.batch import PartScorer, PartScores, ScoringBatch, ScoringContext, has_ended, messages
from palate.rewards.part import PartSettings, check_timeout
from palate.rewards.worker import Job, Setup, called, scores_of

STARTUP_SECONDS = 120.0
"""Enough for a module that loads a model while it is imported."""

GOODBYE_SECONDS = 2.0
"""Wait for a process that closed its connection, because its own exit code says more than that of a kill."""


@dataclass(frozen=True, kw_only=True)
class FunctionReward(PartSettings):
    """Any Python function, in a process of its own.

    It returns a number. With `batched` its arguments are lists, and it returns a list of numbers. It gets what its arguments name:
    `prompt` and `completion` (`prompts` and `completions` with `batched`), `ended` (False for a completion that was cut off),
    `conversation` (turns with `role` and `content`), `completion_ids` (the sampled token ids, empty where only a text is known), and
    further columns of the prompt's row. `**kwargs` gets all of them.

    Attributes:
        function: import path, `package.module:name`.
        batched: whether it takes all completions at once.
        timeout_seconds: seconds for a batch. Completions without a score by then count as failed, and the process is killed.
    """

    kind: Literal["function"] = "function"
    function: FunctionInput
    batched: bool = False
    timeout_seconds: float = 60.0

    def __post_init__(self) -> None:
        """Check the settings."""
        check_timeout(self.kind, self.timeout_seconds)
        self.check_shaping()

    def open(self, context: ScoringContext) -> PartScorer:
        """Start the function's process; an object of this process is called in it, where `timeout_seconds` cannot end it."""
        if is_live(self.function):
            return LiveFunction(Setup(self.function, self.batched))
        return FunctionProcess(f"rewards.{context.name}", Setup(self.function, self.batched), self.timeout_seconds)


class LiveFunction:
    """A function of this process, such as one of a notebook, that scores batches."""

    def __init__(self, setup: Setup) -> None:
        """Check that the function can be called. Raises ConfigError where it cannot."""
        self._setup, self._function = setup, called(setup)

    def score(self, batch: ScoringBatch) -> PartScores:
        """Score all completions; what the function raises is the reason where there is no score."""
        scores = dict(scores_of(self._setup, self._function, job_of(batch)))
        return PartScores.of([scores.get(row, "gave no score") for row in range(len(batch))])

    def close(self) -> None:
        """Do nothing: there is no process."""


def job_of(batch: ScoringBatch) -> Job:
    """Return what a function is given of a batch."""
    pairs = batch.each
    return Job(
        prompts=[prompt.text for prompt, _ in pairs],
        completions=[completion.text for _, completion in pairs],
        ended=[has_ended(completion) for _, completion in pairs],
        conversations=[messages(prompt.conversation) for prompt, _ in pairs],
        completion_ids=[list(completion.ids) for _, completion in pairs],
        columns=batch.columns,
    )


class FunctionProcess:
    """A function that scores batches in a process of its own, which is started again after it was killed."""

    def __init__(self, name: str, setup: Setup, timeout_seconds: float) -> None:
        """Start the process.

        Args:
            name: what messages call it.
            setup: the function.
            timeout_seconds: seconds for a batch.

        Raises:
            ConfigError: the function cannot be imported or called.
        """
        self._name, self._setup, self._timeout = name, setup, timeout_seconds
        self._source: str | None = None
        self._child = _Child()
        self._begin()

    def score(self, batch: ScoringBatch) -> PartScores:
        """Score all completions; those without a score at the timeout get that as their reason.

        Raises:
            TrainingError: the process has to be started again, and the function was edited meanwhile.
        """
        if not self._child.alive:
            self._child = _Child()
            self._begin()
        scores: list[Score | None] = [None] * len(batch)
        until = time.monotonic() + self._timeout
        try:
            self._child.connection.send(job_of(batch))
            while (answer := cast("tuple[int, Score] | None", self._child.receive(until))) is not None:
                row, score = answer
                scores[row] = score
            missing = "gave no score"
        except TimeoutError:
            self._child.stop()
            missing = f"gave no score within {self._timeout:g} s (timeout_seconds)"
        except (EOFError, OSError):
            missing = f"its process ended with code {self._child.ended()}"
        return PartScores.of([missing if score is None else score for score in scores])

    def close(self) -> None:
        """End the process."""
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
            raise ConfigError(f"{self._name}: {refusal}")
        source = source_of(self._setup.function).key
        if self._source not in (None, source):
            self._child.stop()
            raise TrainingError(
                f"{self._name}: {self._setup.function!r} was edited while the run used it. Give the same command again: "
                "the edited function starts a new run"
            )
        self._source = source


class _Child:
    """The process, and this end of the connection to it."""

    def __init__(self) -> None:
        self.connection, theirs = multiprocessing.Pipe()
        # In a session of its own, what the function starts is killed with it, and Ctrl-C reaches only the run.
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
        """Return the process's next message. Raises TimeoutError, or EOFError when the process has ended."""
        if not self.connection.poll(max(until - time.monotonic(), 0)):
            raise TimeoutError
        return self.connection.recv()

    def ended(self) -> int | None:
        """Return the exit code of a process that closed its connection; kill it if it does not end by itself."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(GOODBYE_SECONDS)
        return self.stop()

    def stop(self) -> int | None:
        """Kill the process and all it started, if it still runs, and return the exit code."""
        self._end()
        return self.process.returncode


def _kill(process: subprocess.Popen[bytes], connection: Connection) -> None:
    connection.close()
    if process.poll() is not None:
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()

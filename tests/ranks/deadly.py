"""What a rank runs in the tests of failures: the command, and at one step of one stage, on one rank, what is to go wrong."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palate.cli import main
from palate.core.process import place
from palate.runs.run import Run
from palate.training import checkpoints


def die() -> None:
    """The rank is killed, as by a machine that is short of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    """The rank stands still, as on a broken GPU."""
    os.kill(os.getpid(), signal.SIGSTOP)


def fail() -> None:
    """The rank alone has an error."""
    raise MemoryError("no memory is left on this rank")


def fill() -> None:
    """The disk of the writer is full."""
    from palate.training import learner

    def full(*_: object, **__: object) -> None:
        raise OSError(learner.NO_SPACE, "No space left on device")

    learner.save_file = full  # type: ignore[assignment]


def overflow() -> None:
    """The first steps of float16 begin with a factor that makes gradients overflow."""
    from palate.training import loss_scale

    loss_scale.START = loss_scale.HIGHEST


FAILURES = {"die": die, "hang": hang, "fail": fail, "fill": fill}


def plant(failure: str, rank: int, stage: str, step: int) -> None:
    """Lets it happen when that rank has logged that step."""
    log = Run.log

    def deadly(run: Run, at: int, metrics: Mapping[str, Any]) -> None:
        log(run, at, metrics)
        if run.name == stage and at == step and place().rank == rank:
            FAILURES[failure]()

    Run.log = deadly  # type: ignore[method-assign]


if __name__ == "__main__":
    checkpoints.CHECKPOINT_SECONDS = 0.0
    marker = Path(sys.argv[1])
    failure, rank, stage, step = sys.argv[2].split(":")
    if failure == "overflow":
        overflow()
    elif marker.exists():
        plant(failure, int(rank), stage, int(step))
    raise SystemExit(main(sys.argv[3:]))

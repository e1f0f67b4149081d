"""What a rank runs in the tests of failures: the command, and at one step of one stage, on one rank, what is to go wrong.

`deadly.py FAILURE:RANK:STAGE:STEP COMMAND...`
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palate.cli import main
from palate.core.process import place
from palate.models import tensor_files
from palate.runs.run import Run
from palate.training import checkpoints, loss_scale


def die() -> None:
    """The rank is killed, as by a machine that is short of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    """The rank stands still, as on a broken GPU."""
    os.kill(os.getpid(), signal.SIGSTOP)


def fail() -> None:
    """The rank alone has an error."""
    raise MemoryError("no memory is left on this rank")


def stop() -> None:
    """The rank alone is asked to stop."""
    os.kill(os.getpid(), signal.SIGTERM)


def fill() -> None:
    """The disk of the writer is full."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    tensor_files.save_file = full  # type: ignore[assignment]


def half() -> None:
    """The writer is lost while it writes its next checkpoint."""

    def cut(_tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        die()

    tensor_files.save_file = cut  # type: ignore[assignment]


def overflow() -> None:
    """The first steps in float16 begin with a factor that makes gradients overflow."""
    loss_scale.START = loss_scale.HIGHEST


FAILURES = {"die": die, "hang": hang, "fail": fail, "fill": fill, "half": half, "stop": stop}


def plant(failure: str) -> None:
    """Lets `FAILURE:RANK:STAGE:STEP` happen when that rank has logged that step; checkpoints are saved after every step."""
    if not failure:
        return
    checkpoints.CHECKPOINT_SECONDS = 0.0
    if failure == "overflow":
        overflow()
        return
    name, rank, stage, step = failure.split(":")
    log = Run.log

    def deadly(run: Run, at: int, metrics: Mapping[str, Any]) -> None:
        log(run, at, metrics)
        if (run.name, at, place().rank) == (stage, int(step), int(rank)):
            FAILURES[name]()

    Run.log = deadly  # type: ignore[method-assign]


if __name__ == "__main__":
    plant(sys.argv[1])
    raise SystemExit(main(sys.argv[2:]))

"""Ranks without torchrun: processes that know their places, started by a warm Python."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import NamedTuple

from torch.distributed import TCPStore

from palate.cli import main
from tests.ranks import deadly
from tests.ranks.commands import ENVIRONMENT
from tests.support.repository import ROOT
from tests.support.warm_python import executable

PATIENCE = 120.0
"""Seconds in which the other ranks must end by themselves when one has failed; a stopped one cannot."""


class Ended(NamedTuple):
    """How the ranks ended: the exit code of each, and what all wrote to their standard errors."""

    codes: list[int | None]
    stderr: str


def on_ranks(count: int, words: Sequence[str], folder: Path, failure: str = "", **more: str) -> Ended:
    """Runs the command on so many ranks, with what is to go wrong (`tests.ranks.deadly`) and `more` in their environment."""
    return forked(count, command, (list(words), failure), folder, **more)


def forked(count: int, target: Callable[..., int], arguments: tuple[object, ...], folder: Path, **more: str) -> Ended:
    """Calls a function of a module on so many ranks; what it returns is the exit code."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # outlives every rank, as that of torchrun's agent
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), **ENVIRONMENT, **more}
    shared["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"rank-{rank}.txt" for rank in range(count)]
    words = [executable(), "-m", "tests.ranks.forked", pickle.dumps((target, arguments)).hex()]
    with contextlib.ExitStack() as open_files:
        processes = [
            subprocess.Popen(
                words,
                stdout=subprocess.DEVNULL,
                stderr=open_files.enter_context(file.open("w")),
                env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                cwd=ROOT,
            )
            for rank, file in enumerate(files)
        ]
        _supervise(processes)
    return Ended([process.returncode for process in processes], "".join(file.read_text() for file in files))


def _supervise(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Waits for all ranks; when one has failed, kills those that do not end by themselves."""
    ends = {os.pidfd_open(process.pid): process for process in processes}
    while ends:
        has_failed = any(process.poll() for process in processes)
        ended = wait(list(ends), PATIENCE if has_failed else None)
        if not ended:
            for process in ends.values():
                process.kill()
        for end in ended:
            ends.pop(end).wait()
            os.close(end)


def command(words: list[str], failure: str) -> int:
    """The command of palate, in which something goes wrong."""
    deadly.plant(failure)
    return main(words)


if __name__ == "__main__":
    target, arguments = pickle.loads(bytes.fromhex(sys.argv[1]))
    sys.exit(target(*arguments))

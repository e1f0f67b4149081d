"""Ranks that are forked from a warm process, because each Python that loads torch and transformers anew takes seconds."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import NamedTuple

import torch
from torch.distributed import TCPStore

from palate.cli import main
from tests.ranks import deadly

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
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.ranks.warm"])
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # outlives every rank, as that of torchrun's agent
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "OMP_NUM_THREADS": "1", **more}
    shared["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"rank-{rank}.txt" for rank in range(count)]
    places = [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    processes = [context.Process(target=work, args=(*pair, target, arguments)) for pair in zip(places, files, strict=True)]
    for process in processes:
        process.start()
    _supervise(processes)
    return Ended([process.exitcode for process in processes], "".join(file.read_text() for file in files if file.exists()))


def _supervise(processes: Sequence[ForkServerProcess]) -> None:
    """Waits for all ranks; when one has failed, kills those that do not end by themselves."""
    while alive := [process for process in processes if process.is_alive()]:
        has_failed = any(process.exitcode for process in processes)
        if not wait([process.sentinel for process in alive], PATIENCE if has_failed else None):
            for process in alive:
                process.kill()


def work(environment: Mapping[str, str], file: Path, target: Callable[..., int], arguments: tuple[object, ...]) -> None:
    """What a rank does."""
    os.environ.update(environment)
    sys.path[:0] = environment.get("PYTHONPATH", "").split(os.pathsep)
    torch.set_num_threads(1)
    with file.open("w", buffering=1) as stream:
        os.dup2(stream.fileno(), 2)
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        code = target(*arguments)
        sys.stderr.flush()
    raise SystemExit(code)


def command(words: list[str], failure: str) -> int:
    """The command of palate, in which something goes wrong."""
    deadly.plant(failure)
    return main(words)

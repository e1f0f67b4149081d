"""Starting one command on several ranks: on this machine under torchrun's agent, or on a cluster under Ray Train."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Sequence

from palate.core import ConfigError

TORCHRUN = re.compile(r"torchrun:([1-9][0-9]*)")
RAY = re.compile(r"ray(?::([1-9][0-9]*)(?=:|$))?(?::(.+))?")
LAUNCH_HELP = "torchrun:N runs it on N processes of this machine, such as one per GPU; ray:N or ray:N:ADDRESS on N workers of a Ray cluster"


def launch(how: str, command: str, words: Sequence[str]) -> int:
    """Run a command of palate on several ranks and return its exit code; the ranks write to this process's streams.

    Args:
        how: `torchrun:N`, `ray:N` or `ray:N:ADDRESS`; without N, Ray starts one worker per GPU of the cluster.
        command: the command.
        words: the words after it; a rank does not look at `--launch`.

    Raises:
        ConfigError: `how` is unknown, there are fewer GPUs than ranks, or Ray is not installed or cannot be reached.
    """
    words = [command, *words]
    if match := TORCHRUN.fullmatch(how):
        return _torchrun(int(match[1]), words)
    if match := RAY.fullmatch(how):
        from palate.distributed.ray_workers import run_on_ray

        return run_on_ray(None if match[1] is None else int(match[1]), match[2], words)
    raise ConfigError(f"--launch {how}: use torchrun:N, where N is the number of processes, such as torchrun:8; or ray:N, or ray:N:ADDRESS")


def _torchrun(count: int, words: Sequence[str]) -> int:
    import torch
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if torch.cuda.is_available() and count > torch.cuda.device_count():
        raise ConfigError(
            f"--launch torchrun:{count}: this machine has {torch.cuda.device_count()} GPUs. Start at most one process per GPU"
        )
    # Without this every rank would compute with all cores; torchrun itself gives each only one.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # a rank that fails says why itself
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id="palate",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(),
    )
    try:
        elastic_launch(config, os.environ.get("PYTHON_EXEC", sys.executable))("-m", "palate", *words)  # as torchrun itself
    except ChildFailedError as error:
        # A rank that was killed has a negative code; the others then end with one of their own.
        return max((failure.exitcode for failure in error.failures.values()), default=1)
    except SignalException:
        return 130
    return 0

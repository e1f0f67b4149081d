"""Starting several ranks of one command on this machine, under torchrun's agent, which ends all of them when one fails."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Sequence

from palate.core import ConfigError

HOW = re.compile(r"torchrun:([1-9][0-9]*)")


def launch(how: str, command: str, words: Sequence[str]) -> int:
    """Run a command of palate on several ranks and return its exit code; the ranks write to this process's streams.

    Args:
        how: `torchrun:N` for N ranks.
        command: the command.
        words: the words after it; a rank does not look at `--launch`.

    Raises:
        ConfigError: `how` is unknown, or there are fewer GPUs than ranks.
    """
    match = HOW.fullmatch(how)
    if match is None:
        raise ConfigError(f"--launch {how}: use torchrun:N, where N is the number of processes, such as torchrun:8")
    count = int(match[1])
    import torch
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if torch.cuda.is_available() and count > torch.cuda.device_count():
        raise ConfigError(f"--launch {how}: this machine has {torch.cuda.device_count()} GPUs. Start at most one process per GPU")
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
        elastic_launch(config, sys.executable)("-m", "palate", command, *words)
    except ChildFailedError as error:
        # A rank that was killed has a negative code; the others then end with one of their own.
        return max(failure.exitcode for failure in error.failures.values()) if error.failures else 1
    except SignalException:
        return 130
    return 0

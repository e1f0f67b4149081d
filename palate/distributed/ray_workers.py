"""Ranks as workers of a Ray cluster: Ray Train starts them and ends all when one fails; each runs the command as torchrun's ranks do."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from palate.core import ConfigError, RunError
from palate.core.packages import installed_version
from palate.core.process import DEADLINE, MEMORY_CHECK

CONNECT_SECONDS = 10.0
PASSED_ON = ("OMP_NUM_THREADS", DEADLINE, MEMORY_CHECK, "PYTHONPATH")
"""Variables of the environment that workers get too."""
ENDED = re.compile(r"a rank ended with exit code (-?\d+)")


def run_on_ray(count: int | None, address: str | None, words: Sequence[str]) -> int:
    """Run a command of palate on workers of a Ray cluster and return its exit code.

    Args:
        count: the number of workers; None starts one per GPU.
        address: the cluster's address; None takes the one that `RAY_ADDRESS` or a running `ray start` names, or starts one here.
        words: the command and its words.

    Raises:
        ConfigError: Ray is not installed, or the cluster has no GPU and `count` is None.
        RunError: the cluster cannot be reached.
    """
    try:
        import ray
        from ray.train import RunConfig, ScalingConfig, TrainingFailedError
        from ray.train.collective import broadcast_from_rank_zero  # noqa: F401  (the workers use it)
        from ray.train.torch import TorchTrainer
    except ImportError as error:
        found = installed_version("ray")
        how, of = ("", "") if found is None else ("--upgrade ", f" of ray {found}")
        raise ConfigError(f"--launch ray needs Ray Train{of} ({error}): pip install {how}'ray[train]'") from error
    environment = {name: value for name in PASSED_ON if (value := os.environ.get(name)) is not None}
    _require_answer(address)
    ray.init(address=address, runtime_env={"env_vars": environment}, logging_level="ERROR", include_dashboard=False)
    try:
        gpus = int(ray.cluster_resources().get("GPU", 0))
        if count is None and not gpus:
            raise ConfigError("--launch ray: the cluster has no GPU, so say how many workers there are to be, such as --launch ray:4")
        with tempfile.TemporaryDirectory() as folder:  # Ray Train's own records, which nobody needs: the run's are in its directory
            TorchTrainer(
                _work,
                train_loop_config={"words": list(words), "folder": str(Path.cwd())},
                scaling_config=ScalingConfig(num_workers=count or gpus, use_gpu=bool(gpus)),
                run_config=RunConfig(name="palate", storage_path=folder),
            ).fit()
    except TrainingFailedError as error:
        codes = ENDED.findall(str(error))
        return int(codes[0]) if codes else 1
    finally:
        ray.shutdown()
    return 0


def _require_answer(address: str | None) -> None:
    """Ask for a connection first: Ray itself waits for minutes where nothing answers.

    Raises:
        RunError: nothing answers.
    """
    host, _, port = (address or os.environ.get("RAY_ADDRESS", "")).removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        raise RunError(f"--launch ray: no cluster answers at {host}:{port} ({error}). Is `ray start` running there?") from error


def _work(settings: dict[str, Any]) -> None:
    """Run the command as one rank, in a process of its own: Ray's has threads and signals of Ray's."""
    from ray import train
    from ray.train.collective import broadcast_from_rank_zero

    context = train.get_context()
    rank = context.get_world_rank()
    meeting = broadcast_from_rank_zero(_free_address() if rank == 0 else None)
    host, port = meeting
    place = {
        "RANK": str(rank),
        "WORLD_SIZE": str(context.get_world_size()),
        "LOCAL_RANK": str(context.get_local_rank()),
        "LOCAL_WORLD_SIZE": str(context.get_local_world_size()),
        "MASTER_ADDR": host,
        "MASTER_PORT": str(port),
    }
    command = [sys.executable, "-m", "palate", *settings["words"]]
    done = subprocess.run(command, env={**os.environ, **place}, cwd=settings["folder"], check=False)
    if done.returncode:
        raise RuntimeError(f"a rank ended with exit code {done.returncode}")


def _free_address() -> tuple[str, int]:
    """Return this machine's address and a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return socket.gethostbyname(socket.gethostname()), int(probe.getsockname()[1])

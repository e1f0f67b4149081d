"""Devices: which one a process computes on, and the places where numbers go there and come back.

A model is moved once, when it is loaded, and a batch once, when it enters the model. What leaves a model is on the CPU again: a few numbers
per token (log-probabilities, entropies, values), or per completion (scores, tokens). So only models and samplers know of devices.
Losses, advantages, guards and records never ask, and autograd carries gradients back to the model's device.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from palate.core import ConfigError, TrainingError
from palate.core.process import AUTO, device_name, place
from palate.text.pack import PackedBatch

M = TypeVar("M", bound=PreTrainedModel)

INSTALL_CUDA = "`pip install --force-reinstall torch` on Linux; pytorch.org has the command for other systems"
"""Without `--force-reinstall` pip keeps a build for CPUs of the same version."""
MEMINFO, CONTAINER_LIMIT = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")
"""Where Linux tells how much memory is available, and how much a container may use."""


def current_device() -> torch.device:
    """Return the device to which models are moved when they are loaded or made.

    Raises:
        ConfigError: as `find_device`.
    """
    return find_device(device_name())


def find_device(name: str) -> torch.device:
    """Return the device that a setting names: `auto` takes the first GPU that CUDA finds, or the CPU where there is none.

    Raises:
        ConfigError: there is no such device, or not for this build of torch.
    """
    if name == AUTO:
        return _cuda(name, place().local_rank) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device {name!r} is unknown: use auto, cpu, cuda, mps, or one of several such as cuda:1") from error
    if device.type == "cuda":
        return _cuda(name, place().local_rank if device.index is None else device.index)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"device is {name}, and this machine has no MPS, which is Apple's: use device auto")
    if device.type not in ("cpu", "mps", torch._C._get_privateuse1_backend_name()):
        raise ConfigError(f"device {name!r} cannot be used: use auto, cpu, cuda, mps, or one of several such as cuda:1")
    return device


def _cuda(name: str, index: int) -> torch.device:
    if torch.version.cuda is None and getattr(torch.version, "hip", None) is None:
        remedy = "Use device mps or cpu" if sys.platform == "darwin" else f"Install a build with it ({INSTALL_CUDA}), or use device cpu"
        raise ConfigError(f"device is {name}, and torch {torch.__version__} was built without CUDA. {remedy}")
    if not torch.cuda.is_available():
        raise ConfigError(
            f"device is {name}, and torch {torch.__version__} (CUDA {torch.version.cuda}) finds no GPU that it can use. "
            "Look at nvidia-smi: is a GPU there, and is its driver new enough? Or use device cpu"
        )
    if index >= torch.cuda.device_count() and index == place().local_rank:
        raise ConfigError(
            f"there are {torch.cuda.device_count()} GPUs on this machine, and rank {place().rank} is number {index} on it, counted from 0. "
            "Start at most one rank per GPU"
        )
    if index >= torch.cuda.device_count():
        raise ConfigError(f"device is {name}, and there are {torch.cuda.device_count()} GPUs, counted from 0: use one of them")
    return torch.device("cuda", index)


def out_of_memory(error: Exception, name: str) -> TrainingError | None:
    """Return what to tell the user if this error says that the memory of the device of this name is full."""
    if not isinstance(error, torch.OutOfMemoryError):
        return None
    return TrainingError(
        f"the memory of {describe(find_device(name))} is full ({str(error).partition('. ')[0]}). Give a smaller tokens_per_microbatch, "
        "then checkpoint_activations, then adapters. With the same settings the same command goes on from the last checkpoint"
    )


@dataclass(frozen=True)
class DeviceMemory:
    """Memory of a device that this process can use, in bytes.

    Attributes:
        total: all of it.
        free: what nobody uses now; None where the system does not tell.
    """

    total: float
    free: float | None


def memory_of_device(device: torch.device) -> DeviceMemory:
    """Return the memory of a device. Ranks on one machine that compute on its CPU share its memory."""
    if device.type == "mps":
        most = torch.mps.recommended_max_memory()
        return DeviceMemory(most, most - torch.mps.driver_allocated_memory())
    if device.type != "cpu":
        free, total = torch.get_device_module(device).mem_get_info(device)
        return DeviceMemory(total, free)
    total = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    if CONTAINER_LIMIT.is_file() and (limit := CONTAINER_LIMIT.read_text(encoding="ascii").strip()).isdigit():
        total = min(total, float(limit))
    lines = MEMINFO.read_text(encoding="ascii").splitlines() if MEMINFO.is_file() else []
    available = [1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    ranks_here = place().local_world
    return DeviceMemory(total / ranks_here, min(total, *available) / ranks_here if available else None)


def describe(device: torch.device) -> str:
    """Return the name of a device for people: its GPU where it has one."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def placed(module: M, device: torch.device | None = None) -> M:
    """Return a model on a device, or on that of the process. Weights that are one stay one."""
    module.to(device or current_device())
    module.tie_weights()  # where the device's tensors are of another type, torch moves a weight once for each of its names
    return module


def moved(x: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on `device`. To a GPU it is copied from pinned memory, while the processor goes on."""
    if device.type == "cuda" and x.device.type == "cpu":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


def on_model(batch: PackedBatch, device: torch.device) -> PackedBatch:
    """Return the batch with what a model reads on its device: ids, positions, and where states are taken from."""
    if device.type == "cpu":
        return batch
    return replace(
        batch,
        input_ids=moved(batch.input_ids, device),
        position_ids=moved(batch.position_ids, device),
        sources=moved(batch.sources, device),
        targets=moved(batch.targets, device),
        last=moved(batch.last, device),
    )

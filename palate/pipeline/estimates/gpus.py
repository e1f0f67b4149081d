"""What GPUs have, as their makers state it: memory, dense bfloat16 products per second, and memory bandwidth."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from palate.core import ConfigError
from palate.pipeline.estimates.memory_parts import GB


@dataclass(frozen=True)
class GPU:
    """A kind of GPU.

    Attributes:
        memory: bytes.
        flops: dense products and sums per second in bfloat16, without sparsity.
        bandwidth: bytes per second between its memory and its cores.
    """

    memory: float
    flops: float
    bandwidth: float


GPUS: Mapping[str, GPU] = {
    "rtx3090": GPU(24 * GB, 71e12, 0.936e12),
    "rtx4090": GPU(24 * GB, 165e12, 1.008e12),
    "rtx5090": GPU(32 * GB, 209e12, 1.792e12),
    "a10": GPU(24 * GB, 125e12, 0.6e12),
    "l40s": GPU(48 * GB, 362e12, 0.864e12),
    "a100": GPU(80 * GB, 312e12, 2.039e12),
    "h20": GPU(96 * GB, 148e12, 4.0e12),
    "h100": GPU(80 * GB, 989e12, 3.35e12),
    "h200": GPU(141 * GB, 989e12, 4.8e12),
    "b200": GPU(180 * GB, 2250e12, 8.0e12),
}

_UNITS = {"B": 1, "MB": 10**6, "GB": GB, "TB": 10**12, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}


def bytes_of(text: str) -> float:
    """Return the bytes in words such as `24GB` or `80 GiB`.

    Raises:
        ConfigError: it is not a number above 0 with a known unit.
    """
    parts = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    unit = None if parts is None else _UNITS.get(parts.group(2).upper())
    if parts is None or unit is None or not float(parts.group(1)) > 0:
        raise ConfigError(f"{text!r} is not an amount of memory. Give a number above 0 with its unit, such as 24GB or 80GiB.")
    return float(parts.group(1)) * unit


def find_gpu(name: str) -> GPU:
    """Return a kind of GPU by its name.

    Raises:
        ConfigError: it is not in the table.
    """
    key = re.sub(r"[^a-z0-9]", "", name.lower())
    if key not in GPUS:
        raise ConfigError(f"there is no GPU {name!r} in the table. Known: {', '.join(GPUS)}. For another one, give --memory.")
    return GPUS[key]

"""The types that models compute in, by the names that settings use."""

from __future__ import annotations

from typing import Literal

import torch

from palate.core import ModelError
from palate.core.process import AUTO, note_dtype
from palate.models.devices import current_device

DType = Literal["auto", "float32", "bfloat16", "float16"]
DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def dtype_of(name: DType, device: torch.device | None = None) -> torch.dtype:
    """Return the type that a setting names on `device`, by default that of the process; the run's record tells what `auto` meant.

    `auto` is bfloat16 on a GPU that computes it natively, and float32 elsewhere. CPUs get float32: few of them gain from bfloat16, and the
    same command gives the same numbers on all of them.

    Raises:
        ModelError: the name is unknown.
    """
    if name == AUTO:
        dtype = torch.bfloat16 if _has_bfloat16(device or current_device()) else torch.float32
        note_dtype(str(dtype).removeprefix("torch."))
        return dtype
    if name not in DTYPES:
        raise ModelError(f"dtype {name!r} is unknown; use one of {', '.join((AUTO, *DTYPES))}")
    return DTYPES[name]


def _has_bfloat16(device: torch.device) -> bool:
    """Return whether this is a GPU whose units multiply bfloat16: NVIDIA's from Ampere on, and AMD's."""
    if device.type != "cuda":
        return False
    with torch.cuda.device(device):
        return torch.cuda.is_bf16_supported(including_emulation=False)

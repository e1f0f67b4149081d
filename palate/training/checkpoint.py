"""Training state on disk: tensors in safetensors, numbers in JSON; a checkpoint is whole or absent, never half."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from palate.core import RunError

NO_SPACE = 28


def save_checkpoint(directory: Path, tensors: Mapping[str, torch.Tensor], numbers: Mapping[str, object]) -> None:
    """Replaces the checkpoint in `directory` in one rename, so that a kill at any moment leaves the old or the new one."""
    fresh, old = directory.with_name(directory.name + ".new"), directory.with_name(directory.name + ".old")
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, fresh / "tensors.safetensors")
        (fresh / "numbers.json").write_text(json.dumps(numbers))
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        if error.errno == NO_SPACE:
            raise RunError(
                f"no space left on the disk for the checkpoint {directory}: the one before it stands; free space and run the same command"
            ) from error
        raise
    except Exception as error:  # safetensors reports a full disk as an error of its own
        shutil.rmtree(fresh, ignore_errors=True)
        if "os error 28" in str(error).lower() or "no space" in str(error).lower():
            raise RunError(
                f"no space left on the disk for the checkpoint {directory}: the one before it stands; free space and run the same command"
            ) from error
        raise
    if directory.exists():
        shutil.rmtree(old, ignore_errors=True)  # of a kill after the second rename; a rename onto it would fail
        directory.replace(old)
    fresh.replace(directory)
    shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(directory: Path) -> tuple[dict[str, torch.Tensor], dict[str, object]] | None:
    """Tensors and numbers of the last whole checkpoint, or None where there is none."""
    old = directory.with_name(directory.name + ".old")
    if not directory.exists() and old.exists():  # killed between the two renames
        old.replace(directory)
    if not directory.exists():
        return None
    return load_file(directory / "tensors.safetensors"), json.loads((directory / "numbers.json").read_text())

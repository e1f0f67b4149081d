"""Files of tensors that other users may read where the user's other files may be read.

safetensors writes a temporary file and renames it. The new file keeps the permissions of the temporary one, which its owner alone may read.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file


def save_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write tensors to a file, from whatever device they are on."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    open_to_readers(path.parent)


def open_to_readers(directory: str | Path) -> None:
    """Give the files of tensors in a directory, and in its folders, the permissions that this process gives new files."""
    probe = Path(directory) / ".permissions"
    probe.touch()
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    for path in Path(directory).rglob("*.safetensors"):
        path.chmod(mode)

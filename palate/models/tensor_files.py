"""Files of tensors, written as all other files are: with the same permissions, and with the same errors.

safetensors writes a temporary file and renames it. The new file keeps the permissions of the temporary one, which its owner alone may read.
Errors of the disk are errors of its own.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file


@contextmanager
def writing_tensors(directory: str | Path) -> Iterator[None]:
    """A context in which safetensors writes to a directory. At the end its files have the permissions that this process gives new files.

    Raises:
        OSError: the disk is full or fails, as for every other file.
    """
    try:
        yield
    except SafetensorError as error:
        found = re.search(r"\(os error (\d+)\)", str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(directory)) from error
    probe = Path(directory) / ".permissions"
    probe.touch()
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    for path in Path(directory).rglob("*.safetensors"):
        path.chmod(mode)


def save_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write tensors to a file, from whatever device they are on. Raises OSError as `writing_tensors` does."""
    with writing_tensors(path.parent):
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)

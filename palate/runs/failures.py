"""The errors of a run as its user is told them: a full disk and Ctrl-C get their own messages."""

from __future__ import annotations

import shutil
from pathlib import Path

from palate.core import OUT_OF_SPACE, Interrupted, PalateError, RunError

SPARE_BYTES = 1 << 20
"""With less free space than this, a failure is reported as a full disk."""


def reported(error: BaseException, name: str, directory: Path) -> BaseException:
    """Return the error to raise for `error`, which ended the run of that name in a directory."""
    if isinstance(error, KeyboardInterrupt):
        return Interrupted(f"{name} was stopped at once. The same command continues from what is saved in {directory}.")
    if isinstance(error, PalateError) or not isinstance(error, Exception):
        return error
    is_full = isinstance(error, OSError) and error.errno in OUT_OF_SPACE
    if is_full or shutil.disk_usage(directory).free < SPARE_BYTES:
        return RunError(f"no space left for {directory} ({error}). Make room; the same command then continues from what is saved.")
    return error

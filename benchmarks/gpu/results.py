"""What all parts share: the results that they print, the clock, and the settings that the command gives them. It does not load torch."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

MARK = "result: "
"""Begins the lines of a part that are results."""
FOLDER, TINY = "PALATE_GPU_FOLDER", "PALATE_GPU_TINY"
"""The environment's variables for the folder that all parts share, and for a rehearsal."""


def is_tiny() -> bool:
    """Return whether this is a rehearsal on the CPU."""
    return bool(os.environ.get(TINY))


def folder() -> Path:
    """Return the folder that all parts share."""
    return Path(os.environ[FOLDER])


def result(name: str, **numbers: float | str | bool | None) -> None:
    """Print a result: its name, and its numbers by name and unit."""
    sys.stdout.write(MARK + json.dumps({"name": name, **numbers}) + "\n")
    sys.stdout.flush()

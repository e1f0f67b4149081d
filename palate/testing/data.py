"""Outside data that lies beside the repository."""

from __future__ import annotations

from pathlib import Path

import pytest


def shared_data(name: str) -> Path:
    """Return the path of `name` in the folder `shared/data` beside the repository; skip the test where it does not exist."""
    path = Path(__file__).resolve().parents[3] / "shared" / "data" / name
    if not path.exists():
        pytest.skip(f"outside data {name!r} does not exist")
    return path

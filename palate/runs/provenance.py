"""Which code works on a run, and with which packages."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

from palate import __version__
from palate.runs.digests import source_digest


def code() -> dict[str, str | None]:
    """Which code works on a run; one that is resumed by other code names that which finished it."""
    return {"version": __version__, "source": source_digest(), "commit": _commit()}


def versions() -> dict[str, str | None]:
    """Versions of what computes: Python, torch, transformers; None for one that is not installed."""
    return {"python": platform.python_version(), "torch": _version("torch"), "transformers": _version("transformers")}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout that the package runs from; None for an installed package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    words = ["git", "rev-parse", "--verify", "-q", "HEAD"]
    try:
        done = subprocess.run(words, cwd=root, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None

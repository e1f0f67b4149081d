"""Which code works on a run, and with which versions of packages."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

from palate import __version__
from palate.runs.digests import DIGEST_LENGTH


def code() -> dict[str, str | None]:
    """Return the version, digest and commit of the running code. A run that other code resumed names the code that finished it."""
    return {"version": __version__, "source": source_digest(), "commit": _commit()}


def versions() -> dict[str, str | None]:
    """Return the versions of Python, torch and transformers; None for a package that is not installed."""
    return {"python": platform.python_version(), "torch": _version("torch"), "transformers": _version("transformers")}


@cache
def source_digest() -> str:
    """Return the first 12 hex digits of the digest of the package's Python files."""
    package = Path(__file__).resolve().parents[1]
    total = hashlib.sha256()
    for name, file in sorted((file.relative_to(package).as_posix(), file) for file in package.rglob("*.py")):
        total.update(f"{name}\0".encode() + file.read_bytes() + b"\0")
    return total.hexdigest()[:DIGEST_LENGTH]


@cache
def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@cache
def _commit() -> str | None:
    """The commit of the checkout that the package runs from, when it first asked; None for an installed package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    words = ["git", "rev-parse", "--verify", "-q", "HEAD"]
    try:
        done = subprocess.run(words, cwd=root, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None

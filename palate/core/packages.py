"""Versions of packages that are installed beside Palate, read without importing them."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

from palate.core.errors import ConfigError

Version = tuple[int, ...]


def installed_version(package: str) -> str | None:
    """Return the version of a package; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def require_version(package: str, oldest: Version, what: str) -> None:
    """Refuse a package that is older than `oldest`. One that is not installed is not looked at: importing it says so.

    Raises:
        ConfigError: it is older; the message begins with `what` needs it.
    """
    found = installed_version(package)
    if found is not None and tuple(map(int, re.findall(r"\d+", found)[: len(oldest)])) < oldest:
        wanted = ".".join(map(str, oldest))
        raise ConfigError(f"{what} needs {package} {wanted} or newer, and {found} is installed: pip install --upgrade {package}")

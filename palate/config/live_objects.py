"""Functions and classes of this process that have no import path, such as those of a notebook, by the names that stand for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from palate.core import ConfigError

LIVE = "object"
"""Stands before the name of such an object, as a module does before the name of others."""

_objects: dict[str, tuple[Callable[..., Any], str]] = {}
"""The objects and the digests of what they compute with, by name."""


def is_live(path: str) -> bool:
    """Return whether a path names an object of a process."""
    return path.startswith(f"{LIVE}:")


def remember(name: str, found: Callable[..., Any], digest: str) -> str:
    """Keep an object for as long as this process lives, and return the path that names it."""
    path = f"{LIVE}:{name}"
    _objects[path] = found, digest
    return path


def live_object(path: str) -> Callable[..., Any]:
    """Return the object of that name.

    Raises:
        ConfigError: this process has none.
    """
    if path not in _objects:
        raise ConfigError(
            f"{path!r} was an object of another process, such as a notebook. Give the object again, or define it in a module and name that"
        )
    return _objects[path][0]


def live_digest(path: str) -> str:
    """Return the digest of what the object computes with. Raises ConfigError as `live_object`."""
    live_object(path)
    return _objects[path][1]

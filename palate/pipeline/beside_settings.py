"""Values that stand beside a stage's settings: its seed, its device and what ranks share out."""

from __future__ import annotations

from palate.config.settings import Keys, Settings
from palate.core import ConfigError
from palate.core.process import Shard


def seed_at(settings: Settings, keys: Keys, value: object) -> int:
    """Return the seed at `keys`. Raises ConfigError where it is not a whole number of 0 or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(f"{settings.place(keys)}: a seed is a whole number of 0 or more, got {value!r}.")
    return value


def device_at(settings: Settings, keys: Keys, value: object) -> str:
    """Return the name of the device at `keys`. Raises ConfigError where it is not a text."""
    if not isinstance(value, str):
        raise ConfigError(f"{settings.place(keys)}: a device is auto, cpu, cuda, mps, or one of several such as cuda:1, got {value!r}.")
    return value


def shard_at(settings: Settings, keys: Keys, value: object, default: Shard) -> Shard:
    """Return which weights ranks share out, or `default` where nothing is said. Raises ConfigError where the value is unknown."""
    if value is None:
        return default
    try:
        return Shard.read(str(value))
    except ConfigError as error:
        raise ConfigError(f"{settings.place(keys)}: {error}") from error


def kept_at(settings: Settings, keys: Keys, value: object) -> bool:
    """Return whether the run keeps its last checkpoint. Raises ConfigError where the value is neither true nor false."""
    if not isinstance(value, bool):
        raise ConfigError(f"{settings.place(keys)}: keep_state is true or false, got {value!r}.")
    return value


def extend_at(settings: Settings, stage: str) -> str | None:
    """Return the run that a stage goes on from; None where it starts anew. Raises ConfigError where it is not a text."""
    keys = ("stages", stage, "extend")
    value = settings.get(keys)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{settings.place(keys)}: extend is the directory of a run, or $stage, got {value!r}.")
    return value

"""Settings of the whole process. They are known before torch is loaded, and without it."""

from __future__ import annotations

import gc
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Literal, cast

from palate.core.errors import ConfigError

SPINS = "1000"
"""How often an idle thread of OpenMP looks for work before it sleeps."""


def limit_spinning() -> None:
    """Let idle threads of GNU's OpenMP sleep soon, so that the process stays fast beside other busy ones.

    Between two parallel parts of a computation the threads wait for each other, and by default they wait for milliseconds without giving
    up their core. On a busy machine they then take the core from the thread that they wait for. docs/benchmarks.md has measurements.
    What the user set in the environment wins. The library reads the variable when torch loads it, so a later call changes nothing.
    """
    if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def exempt_from_collection() -> None:
    """Collect garbage, and let later collections pass over all that is there now: libraries, models.

    A full collection goes through every object of the process. With torch and a model that takes a tenth of a second, and nothing else
    runs meanwhile. What an earlier call exempted is looked at again, so call this whenever something large has gone.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


AUTO = "auto"
"""The device where the user names none: a GPU if there is one."""


WHOLE: Final = "none"
FROZEN: Final = "frozen"
ALL: Final = "all"
"""Which weights ranks share out: no weights, those that do not learn, or all."""


@dataclass(frozen=True)
class Shard:
    """How ranks hold the layers of models: whole, or each a slice.

    Attributes:
        kind: `none` holds them whole, `frozen` shares out models and weights that do not learn, and `all` those that learn too.
        ranks: how many ranks share a model; None stands for all ranks of a machine.
    """

    kind: Literal["none", "frozen", "all"] = "none"
    ranks: int | None = None

    @staticmethod
    def read(text: str) -> Shard:
        """Return what `frozen`, `all` or `all:4` means.

        Raises:
            ConfigError: it means nothing.
        """
        match = re.fullmatch(rf"({WHOLE}|{FROZEN}|{ALL})(?::([1-9][0-9]*))?", text)
        if match is None or (match[1] == WHOLE and match[2]):
            raise ConfigError(
                f"shard is {text!r}: use none, frozen or all. With a number, such as all:4, so many ranks share each model; without one, "
                "all ranks of a machine do"
            )
        return Shard(cast("Literal['none', 'frozen', 'all']", match[1]), None if match[2] is None else int(match[2]))

    def takes(self, *, learns: bool) -> bool:
        """Return whether a model is shared out: one whose weights all learn, or one that has frozen weights."""
        return self.kind == ALL or (self.kind == FROZEN and not learns)


@dataclass
class Computing:
    """How models of this process compute meanwhile.

    Attributes:
        device: the device, as its user named it.
        shard: how ranks share out weights.
        is_used: whether a model was put on the device.
        dtype: what `dtype: auto` meant.
    """

    device: str
    shard: Shard = field(default_factory=Shard)
    is_used: bool = False
    dtype: str | None = None


_now = Computing("cpu")


def device_name() -> str:
    """Return the device that the next model of this process is put on, as its user named it; `palate.models.devices` finds it."""
    _now.is_used = True
    return _now.device


def note_dtype(name: str) -> None:
    """Note the type that `dtype: auto` means on the device."""
    _now.dtype = name


@contextmanager
def computing_on(device: str, shard: Shard | None = None) -> Iterator[Computing]:
    """Load and make models on this device meanwhile. A process computes on one device, whichever of its threads loads a model."""
    global _now
    before, _now = _now, Computing(device, shard or Shard())
    try:
        yield _now
    finally:
        _now = before


def shard_now() -> Shard:
    """Return how the ranks that run this stage share out weights."""
    return _now.shard


DEADLINE = "PALATE_RANK_DEADLINE"
"""The environment's variable for the seconds after which a rank that does not answer is given up."""


PLACE = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
"""Variables that launchers set, and what they are where nobody launched the process."""

MEMORY_CHECK = "PALATE_MEMORY_CHECK"
"""The environment's variable that says `off` where models are to be loaded although they are estimated not to fit."""


@dataclass(frozen=True)
class Place:
    """This process among those that work on one run together: its rank of `world`, and its number of `local_world` on its machine."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1


def place() -> Place:
    """Return the place that the launcher gave this process (torchrun's variables); alone where nobody launched it.

    Raises:
        ConfigError: a variable is not a whole number.
    """
    words = {name: os.environ.get(name, default) for name, default in PLACE.items()}
    for name, word in words.items():
        if not word.isdecimal():
            raise ConfigError(f"the environment variable {name} is {word!r}: it must be a whole number. Unset it, or use --launch")
    return Place(*map(int, words.values()))

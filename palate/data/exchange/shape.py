"""The protocols of outside shapes of judgments: what reads one, and what writes one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from palate.data.cells import Columns
from palate.data.containers import SourceRow
from palate.data.exchange.contents import Exchange
from palate.data.exchange.gather import Gathering
from palate.data.formats.dropped import Dropped

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: the number of rows, the votes or items that the shape cannot hold (with reasons), and further files."""

    rows: int
    left_out: tuple[Dropped, ...] = ()
    beside: tuple[Path, ...] = ()


def unheld(item: str, reason: str) -> Dropped:
    """An item, or a vote on it, that a shape cannot hold, with the reason."""
    source = f"item {item!r}"
    return Dropped(source, reason)


def parted(results: Iterable[T | Dropped]) -> tuple[list[T], tuple[Dropped, ...]]:
    """What a shape can hold, and what it cannot, each in order."""
    every = list(results)
    held = [result for result in every if not isinstance(result, Dropped)]
    return held, tuple(result for result in every if isinstance(result, Dropped))


class Readable(Protocol):
    """A shape that Palate reads."""

    @property
    def name(self) -> str:
        """Its name on the command line and in messages."""
        ...

    @property
    def needs(self) -> str:
        """The columns of its rows, in words."""
        ...

    def fits(self, row: Columns) -> bool:
        """Whether the file's first row has the columns of this shape; its values may still be wrong."""
        ...

    def read(self, rows: Iterable[SourceRow], into: Gathering) -> None:
        """Collect what the rows say. Raises DataError as `Gathering.each` does."""
        ...


class Writable(Protocol):
    """A shape that Palate writes."""

    @property
    def name(self) -> str:
        """Its name on the command line and in messages."""
        ...

    @property
    def loses(self) -> str:
        """What it cannot hold, in words; "" if it can hold everything."""
        ...

    def write(self, exchange: Exchange, path: Path) -> Written:
        """Write the exchange to `path` in one step and say what was written. If writing fails, `path` keeps its former content.

        Raises:
            DataError: this shape cannot hold an item at all; the message names the item and the remedy.
        """
        ...

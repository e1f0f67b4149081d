"""What every outside shape of judgments offers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from palate.data.containers import Found
from palate.data.exchange.cells import Columns
from palate.data.exchange.exchange import Exchange
from palate.data.exchange.gather import Gathering
from palate.data.formats.dropped import Dropped


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: rows of the file, votes or items that the shape cannot hold (with the reason), and further files."""

    rows: int
    left_out: tuple[Dropped, ...] = ()
    beside: tuple[Path, ...] = ()


def unheld(item: str, reason: str) -> Dropped:
    """An item, or a vote on it, that a shape cannot hold."""
    source = f"item {item!r}"
    return Dropped(source, reason)


class Readable(Protocol):
    """A shape that is read."""

    @property
    def name(self) -> str:
        """How the command line and messages call it."""
        ...

    @property
    def needs(self) -> str:
        """What its rows have, in words."""
        ...

    def fits(self, row: Columns) -> bool:
        """Whether the file's first row is written in this shape; it may still be faulty."""
        ...

    def read(self, rows: Iterable[Found], into: Gathering) -> None:
        """Nothing; what the rows say is gathered. Raises DataError as `Gathering.each` does."""
        ...


class Writable(Protocol):
    """A shape that is written."""

    @property
    def name(self) -> str:
        """How the command line and messages call it."""
        ...

    @property
    def loses(self) -> str:
        """What it cannot hold, in words; "" for nothing."""
        ...

    def write(self, exchange: Exchange, path: Path) -> Written:
        """What was written. `path` holds all of it afterwards, or its former content when writing fails.

        Raises:
            DataError: an item cannot be written in this shape at all; the message names it and the remedy.
        """
        ...

"""What a reader returns: usable rows, and what was dropped with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

EXAMPLES = 3
"""How many sources are named for each reason."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that was left out: `file:row`, and why. The reason's words before a colon are the same for all rows of the kind."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class Table(Generic[T]):
    """Rows in the order of the file, and the rows that were left out."""

    rows: list[T]
    dropped: list[Dropped]


@dataclass(frozen=True, slots=True)
class DropCount:
    """How many rows were left out for one kind of reason, and the first of them."""

    reason: str
    count: int
    examples: tuple[Dropped, ...]

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.examples) else ""
        return f"{self.count} x {self.reason} ({', '.join(example.source for example in self.examples)}{more})"


def dropped_summary(table: Table[T]) -> tuple[DropCount, ...]:
    """Counts by reason, most frequent first, each with the first rows it befell; () when nothing was dropped."""
    return count_dropped(table.dropped)


def count_dropped(dropped: Sequence[Dropped]) -> tuple[DropCount, ...]:
    """The same for a bare list."""
    kinds: dict[str, list[Dropped]] = {}
    for row in dropped:
        kinds.setdefault(row.reason.partition(":")[0], []).append(row)
    counts = (DropCount(reason, len(rows), tuple(rows[:EXAMPLES])) for reason, rows in kinds.items())
    return tuple(sorted(counts, key=lambda kind: (-kind.count, kind.reason)))

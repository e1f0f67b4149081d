"""What a reader returns: usable rows, and what was dropped with its reason."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

EXAMPLES = 3
"""How many sources are named for each reason."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that was left out: `file:row`, and why. The reason's words before a colon are the same for all rows of the kind."""

    source: str
    reason: str

    @property
    def kind(self) -> str:
        """The reason without what differs from row to row."""
        return self.reason.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Table(Generic[T]):
    """Rows in the order of the file, and the rows that were left out."""

    rows: list[T]
    dropped: list[Dropped]


def table_of(stream: Iterable[T | Dropped]) -> Table[T]:
    """All that a stream gives."""
    table: Table[T] = Table([], [])
    for one in stream:
        if isinstance(one, Dropped):
            table.dropped.append(one)
        else:
            table.rows.append(one)
    return table


@dataclass(frozen=True, slots=True)
class DropCount:
    """How many rows were left out for one kind of reason, and the first of them."""

    reason: str
    count: int
    examples: tuple[Dropped, ...]

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.examples) else ""
        return f"{self.count} x {self.reason} ({', '.join(Path(example.source).name for example in self.examples)}{more})"


def dropped_summary(table: Table[T]) -> str:
    """`2 x empty completion (a.jsonl:4, a.jsonl:9); 1 x ...`: counts by reason with the first rows; "" when nothing was dropped."""
    return "; ".join(map(str, count_dropped(table.dropped)))


def count_dropped(dropped: Sequence[Dropped]) -> tuple[DropCount, ...]:
    """Counts by kind of reason, most frequent first."""
    kinds: dict[str, list[Dropped]] = {}
    for row in dropped:
        kinds.setdefault(row.kind, []).append(row)
    counts = (DropCount(reason, len(rows), tuple(rows[:EXAMPLES])) for reason, rows in kinds.items())
    return tuple(sorted(counts, key=lambda kind: (-kind.count, kind.reason)))

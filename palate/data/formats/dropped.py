"""What a reader returns: the usable rows, and the dropped rows with their reasons."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

Further = dict[str, None]
"""Columns that rows have and their shape does not read, in the order in which they were seen."""

EXAMPLES = 3
"""Sources that a summary names per reason."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that was left out: `file:row`, and the reason. Its words before a colon are the same for all rows of a kind."""

    source: str
    reason: str

    @property
    def kind(self) -> str:
        """The part of the reason that is the same for all rows of its kind."""
        return self.reason.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Table(Generic[T]):
    """Rows in the order of the file, the rows that were left out, and the columns of which no text was made."""

    rows: list[T]
    dropped: list[Dropped]
    further: Further = field(default_factory=dict)


def table_of(stream: Iterable[T | Dropped], further: Further) -> Table[T]:
    """Collect the usable and the dropped rows of a stream. `further` is what the stream adds further columns to."""
    table: Table[T] = Table([], [], further)
    for entry in stream:
        if isinstance(entry, Dropped):
            table.dropped.append(entry)
        else:
            table.rows.append(entry)
    return table


@dataclass(frozen=True, slots=True)
class DropCount:
    """How many rows were left out for one kind of reason, and the first `EXAMPLES` of them."""

    reason: str
    count: int
    examples: tuple[Dropped, ...]

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.examples) else ""
        return f"{self.count} x {self.reason} ({', '.join(Path(example.source).name for example in self.examples)}{more})"


def dropped_summary(table: Table[T]) -> str:
    """Counts by reason with the first rows, such as `2 x empty completion (a.jsonl:4, a.jsonl:9); 1 x ...`; "" if none was dropped."""
    return "; ".join(map(str, count_dropped(table.dropped)))


def count_dropped(dropped: Sequence[Dropped]) -> tuple[DropCount, ...]:
    """Counts by kind of reason, the most frequent first."""
    kinds: dict[str, list[Dropped]] = {}
    for row in dropped:
        kinds.setdefault(row.kind, []).append(row)
    counts = (DropCount(reason, len(rows), tuple(rows[:EXAMPLES])) for reason, rows in kinds.items())
    return tuple(sorted(counts, key=lambda kind: (-kind.count, kind.reason)))

"""Marks of single completions: the rows that a pointwise judge's run writes, and those in which people's marks are given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from palate.core import Conversation, DataError, PalateError
from palate.data import cells
from palate.data.cells import Columns, InvalidRow
from palate.data.conversations import conversation_or_text
from palate.data.jsonl import read_rows
from palate.data.pseudonyms import pseudonym

MARKS = "marks.jsonl"
"""The file of a run of `collect` with the marks of its judges."""


MarkedText = tuple[tuple[str, ...], str]
"""What tells a marked completion from others: the texts of its prompt, and its own."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What one rater thinks of one completion, as a number. More is better.

    Attributes:
        prompt: what the completion answers.
        completion: its text.
        rater: who marks it.
        value: the mark; of a judge that gives probabilities the expected one.
        dimension: what is marked; None where the rater's instructions say it, as for a judge.
        shares: (mark, probability) of a judge; () for a plain mark.
        votes: replies behind the shares; None where the probabilities are the model's own.
    """

    prompt: Conversation
    completion: str
    rater: str
    value: float
    dimension: str | None = None
    shares: tuple[tuple[float, float], ...] = ()
    votes: int | None = None

    @property
    def key(self) -> MarkedText:
        """What tells the marked completion from others."""
        return tuple(turn.text.strip() for turn in self.prompt), self.completion


def read_marks(source: Path) -> tuple[Mark, ...]:
    """Return the marks in a file of marks, or in a run of `collect`; () where there are none. Completions without a mark are left out.

    Raises:
        DataError: a row of a file of marks is not a mark; the message says where.
    """
    file = source / MARKS if source.is_dir() else source
    return tuple(_marks(file)) if has_marks(file) else ()


def has_marks(file: Path) -> bool:
    """Return whether a file is one of marks, by its first row."""
    if file.suffix != ".jsonl" or not file.is_file():
        return False
    try:
        first: Mapping[str, object] = next((row for _, row in read_rows(file)), {})
    except PalateError:
        return False  # whoever reads it as something else says what is wrong with it
    return {"prompt", "completion", "rater"} <= first.keys() and ("mark" in first or "reason" in first)


def _marks(file: Path) -> Iterator[Mark]:
    for number, row in read_rows(file):
        if row.get("mark") is None and "reason" in row:
            continue
        try:
            yield _mark(row)
        except InvalidRow as error:
            raise DataError(f"{file}:{number}: {error}. A mark has `prompt`, `completion`, `rater` and the number `mark`.") from error


def _mark(row: Columns) -> Mark:
    shares = cells.mapping(row.get("shares") or {}, "shares")
    return Mark(
        conversation_or_text(cells.present(row, "prompt"), "prompt"),
        cells.text(cells.present(row, "completion"), "completion"),
        pseudonym(cells.present(row, "rater"), "rater"),
        cells.number(cells.present(row, "mark"), "mark"),
        None if row.get("dimension") is None else cells.name(row["dimension"], "dimension"),
        tuple((_value(mark), cells.number(share, f"shares.{mark}", least=0, most=1 + 1e-6)) for mark, share in shares.items()),
        None if row.get("votes") is None else cells.whole(row["votes"], "votes", least=1, most=10**6),
    )


def _value(mark: str) -> float:
    try:
        return float(mark)
    except ValueError as error:
        raise cells.invalid("shares", f"has {mark!r}, which is not a number") from error

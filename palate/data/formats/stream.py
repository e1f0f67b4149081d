"""Stream the rows of any file in any shape, with reasons for the rows that were left out. Every reader begins here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from palate.core import ConfigError, DataError
from palate.data.cells import Columns, InvalidRow
from palate.data.containers import SourceRow, read_container
from palate.data.formats.best_of import BestOfFormat
from palate.data.formats.chats import ChatFormat
from palate.data.formats.column_types import RECOGNISED, ColumnTypes, named_columns, standard_row
from palate.data.formats.dropped import Dropped, Further, count_dropped
from palate.data.formats.excluded_rows import refuse_excluded
from palate.data.formats.fields import FIELDS
from palate.data.formats.helpsteer import HelpSteerFormat
from palate.data.formats.labelled_completions import LabelledCompletionFormat
from palate.data.formats.oasst import OASSTFormat, with_trees
from palate.data.formats.plain_text import PlainTextFormat
from palate.data.formats.preferences import PreferenceFormat
from palate.data.formats.prompt_completion import PromptCompletionFormat
from palate.data.formats.prompt_only import PromptOnlyFormat
from palate.data.formats.proposals import absent_text, shape_text
from palate.data.formats.row_types import RowFormat
from palate.data.formats.sampled import SAMPLED
from palate.data.formats.samples import SamplesFormat
from palate.data.formats.standard_rows import SYSTEM_COLUMNS, StandardRow
from palate.data.formats.transcripts import TranscriptFormat
from palate.data.formats.ultrafeedback import UltraFeedbackFormat

SHAPES: tuple[RowFormat, ...] = (
    TranscriptFormat(),
    BestOfFormat(),
    PreferenceFormat(),
    LabelledCompletionFormat(),
    PromptCompletionFormat(),
    HelpSteerFormat(),
    UltraFeedbackFormat(),
    OASSTFormat(),
    ChatFormat(),
    SamplesFormat(),
    PromptOnlyFormat(),
    PlainTextFormat(),
)
"""Every shape that Palate reads. A row is read in the first that fits, so a row with chosen, prompt and messages is a pair."""

READ_EVERYWHERE = ("id", "tools", *SYSTEM_COLUMNS, "votes", "raters", FIELDS, SAMPLED)
"""Columns that are read, or that other commands read, beside those of any shape."""

T = TypeVar("T")
Make = Callable[[SourceRow, Columns, RowFormat], Iterable[T | Dropped]]
"""Makes results of a row. Raises InvalidRow, or returns Dropped for a part of the row."""


class UnknownShapeError(DataError):
    """The first row of a file has columns that make no shape; `row` is that row."""

    def __init__(self, source: str, row: Columns) -> None:
        super().__init__(shape_text(source, row))
        self.row = row


@dataclass(frozen=True)
class Source:
    """A file of rows and how to read it.

    Attributes:
        path: a file, a directory, or owner/name on the Hugging Face hub.
        limit: the most results, from the beginning; None for all.
        columns: what its columns hold.
        further: takes the names of columns that no shape reads.
    """

    path: str | Path
    limit: int | None = None
    columns: ColumnTypes = RECOGNISED
    further: Further = field(default_factory=dict)


def stream(
    source: Source,
    make: Make[T],
    needs: str,
    *,
    shapes: tuple[RowFormat, ...] = SHAPES,
    at_end: Callable[[], Iterable[Dropped]] = tuple,
) -> Iterator[T | Dropped]:
    """What `make` makes of the rows, at most `limit`, and the dropped rows. `at_end` returns those that drop out only at the end."""
    path, limit = source.path, source.limit
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}; give 1 or more, or leave it out to read every row of {path}.")
    count, first_row, is_known = 0, dict[str, object](), False
    missing = set(named_columns(source.columns))
    dropped: list[Dropped] = []  # until the first usable row, to say in the error why there is none
    for entry in with_trees(read_container(path)):
        first_row = first_row or dict(entry.row)
        missing -= entry.row.keys()
        try:
            refuse_excluded(entry.row)
            standard, shape = _recognised(entry, source.columns, shapes, is_first=not is_known)
            is_known = True
            results = list(make(entry, standard.row, shape))
            _note_further(entry.row, standard, shape, source)
        except InvalidRow as error:
            results = [Dropped(entry.source, error.reason)]
        for result in results:
            yield result
            if not isinstance(result, Dropped):
                count += 1
            elif not count:
                dropped.append(result)
            if limit is not None and count >= limit:
                return
    last = list(at_end())
    yield from last
    if missing and first_row:
        raise DataError(absent_text(str(path), "no row has", sorted(missing), first_row))
    if not count:
        raise DataError(_nothing_left(path, dropped + last, _names(first_row) if first_row else "", needs))


def _recognised(entry: SourceRow, columns: ColumnTypes, shapes: tuple[RowFormat, ...], *, is_first: bool) -> tuple[StandardRow, RowFormat]:
    """The row under the names of the shapes, and its shape. Raises InvalidRow if it has none, DataError if it is the first row."""
    if entry.fault:
        raise InvalidRow(entry.fault)
    standard = standard_row(entry.row, columns)
    shape = next((shape for shape in shapes if shape.fits(standard.row)), None)
    if shape is not None:
        return standard, shape
    if any(shape.fits(entry.row) for shape in shapes):
        raise InvalidRow(f"null in every column that counts: {_names(entry.row)}")
    if is_first:
        absent = [name for name in named_columns(columns) if name not in entry.row]
        text = absent_text(entry.source, "the first row does not have", absent, entry.row)
        raise DataError(text) if absent else UnknownShapeError(entry.source, entry.row)
    raise InvalidRow(f"no known columns: {_names(entry.row)}")


def _note_further(row: Columns, standard: StandardRow, shape: RowFormat, source: Source) -> None:
    """Add the columns that hold something and that the shape does not read."""
    if shape.kind == "texts":
        read = {"id", *shape.columns}.difference(standard.hidden).union(named_columns(source.columns))
    else:
        read = {*READ_EVERYWHERE, *shape.columns}.difference(standard.hidden).union(standard.read)
    for name, value in row.items():
        if name not in read and value is not None:
            source.further[name] = None


def _names(row: Columns) -> str:
    return ", ".join(map(str, row)) or "none"


def _nothing_left(path: str | Path, dropped: list[Dropped], first_columns: str, needs: str) -> str:
    if not dropped:
        return f"{path}: holds no row. {needs}"
    reasons = "; ".join(map(str, count_dropped(dropped)))
    columns = f" The first row's columns: {first_columns}." if first_columns else ""
    first = f"The first, {dropped[0].source}: {dropped[0].reason}."
    return f"{path}: none of its {len(dropped)} rows can be used: {reasons}. {first}{columns} {needs}"

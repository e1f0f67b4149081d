"""Stream the rows of any file in any shape, with reasons for the rows that were left out. Every reader begins here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from palate.core import ConfigError, DataError
from palate.data.cells import Columns, InvalidRow
from palate.data.containers import SourceRow, read_container
from palate.data.formats.chats import ChatFormat
from palate.data.formats.dropped import Dropped, count_dropped
from palate.data.formats.helpsteer import HelpSteerFormat
from palate.data.formats.labelled_completions import LabelledCompletionFormat
from palate.data.formats.oasst import OASSTFormat, with_trees
from palate.data.formats.plain_text import PlainTextFormat
from palate.data.formats.preferences import PreferenceFormat
from palate.data.formats.prompt_completion import PromptCompletionFormat
from palate.data.formats.prompt_only import PromptOnlyFormat
from palate.data.formats.row_types import RowFormat
from palate.data.formats.transcripts import TranscriptFormat
from palate.data.formats.ultrafeedback import UltraFeedbackFormat

SHAPES: tuple[RowFormat, ...] = (
    TranscriptFormat(),
    PreferenceFormat(),
    LabelledCompletionFormat(),
    PromptCompletionFormat(),
    HelpSteerFormat(),
    UltraFeedbackFormat(),
    OASSTFormat(),
    ChatFormat(),
    PromptOnlyFormat(),
    PlainTextFormat(),
)
"""Every shape that Palate reads. A row is read in the first that fits, so a row with chosen, prompt and messages is a pair."""

T = TypeVar("T")
Make = Callable[[SourceRow, Columns, RowFormat], Iterable[T | Dropped]]
"""Makes results of a row. Raises InvalidRow, or returns Dropped for a part of the row."""


def stream(
    path: str | Path,
    limit: int | None,
    make: Make[T],
    needs: str,
    *,
    shapes: tuple[RowFormat, ...] = SHAPES,
    at_end: Callable[[], Iterable[Dropped]] = tuple,
) -> Iterator[T | Dropped]:
    """What `make` makes of the rows, at most `limit`, and the dropped rows. `at_end` returns those that drop out only at the end."""
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}; give 1 or more, or leave it out to read every row of {path}.")
    count, first_columns = 0, ""
    dropped: list[Dropped] = []  # until the first usable row, to say in the error why there is none
    for entry, row in _rows(path):
        try:
            shape = _shape(entry, row, shapes)
            if shape is None and not first_columns:
                raise DataError(_unknown_columns(entry))
            first_columns = first_columns or _names(entry.row)
            if shape is None:
                raise InvalidRow(f"no known columns: {_names(entry.row)}")
            results = list(make(entry, row, shape))
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
    if not count:
        raise DataError(_nothing_left(path, dropped + last, first_columns, needs))


def _shape(entry: SourceRow, row: Columns, shapes: tuple[RowFormat, ...]) -> RowFormat | None:
    """The shape of the row, or None if it has none of them. Raises InvalidRow if the row cannot be read."""
    if entry.fault:
        raise InvalidRow(entry.fault)
    shape = next((shape for shape in shapes if shape.fits(row)), None)
    if shape is None and any(shape.fits(entry.row) for shape in shapes):
        raise InvalidRow(f"null in every column that counts: {_names(entry.row)}")
    return shape


def _rows(path: str | Path) -> Iterator[tuple[SourceRow, Columns]]:
    """Each row, and the same without columns that hold null."""
    for entry in with_trees(read_container(path)):
        yield entry, {name: value for name, value in entry.row.items() if value is not None}


def _names(row: Columns) -> str:
    return ", ".join(map(str, row)) or "none"


def _unknown_columns(entry: SourceRow) -> str:
    shapes = "; ".join(f"{shape.name}: {shape.needs}" for shape in SHAPES)
    return (
        f"{entry.source}: the first row has the columns {_names(entry.row)}, which do not make a known shape. Rename them. "
        f"Palate reads {shapes}."
    )


def _nothing_left(path: str | Path, dropped: list[Dropped], first_columns: str, needs: str) -> str:
    if not dropped:
        return f"{path}: holds no row. {needs}"
    reasons = "; ".join(map(str, count_dropped(dropped)))
    columns = f" The first row's columns: {first_columns}." if first_columns else ""
    first = f"The first, {dropped[0].source}: {dropped[0].reason}."
    return f"{path}: none of its {len(dropped)} rows can be used: {reasons}. {first}{columns} {needs}"

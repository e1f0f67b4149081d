"""Rows of any file in any shape, one by one, with reasons for those that were left out: what every reader begins with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from palate.core import ConfigError, DataError
from palate.data.containers import Found, read_container
from palate.data.formats.chats import ChatFormat
from palate.data.formats.dropped import Dropped, count_dropped
from palate.data.formats.helpsteer import HelpSteerFormat
from palate.data.formats.hh import TranscriptFormat
from palate.data.formats.labelled_completions import LabelledCompletionFormat
from palate.data.formats.oasst import OASSTFormat, grown
from palate.data.formats.plain_text import PlainTextFormat
from palate.data.formats.preferences import PreferenceFormat
from palate.data.formats.prompt_completion import PromptCompletionFormat
from palate.data.formats.prompt_only import PromptOnlyFormat
from palate.data.formats.row_types import Columns, InvalidRow, RowFormat
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
"""Every shape that is read. A row is read in the first that fits; a row with chosen, prompt and messages is a pair."""

T = TypeVar("T")
Make = Callable[[Found, Columns, RowFormat], Iterable[T | Dropped]]
"""What a reader makes of a row. Raises Unfit, or gives Dropped for a part of it."""


def stream(
    path: str | Path,
    limit: int | None,
    make: Make[T],
    needs: str,
    *,
    shapes: tuple[RowFormat, ...] = SHAPES,
    rest: Callable[[], Iterable[Dropped]] = tuple,
) -> Iterator[T | Dropped]:
    """What `make` makes of the rows, at most `limit`, and the rows dropped; `rest` knows at the end which more are to be dropped."""
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}; give 1 or more, or leave it out to read every row of {path}.")
    count, first_columns = 0, ""
    dropped: list[Dropped] = []  # kept only as long as nothing else was found, to say why there is nothing
    for found, row in _rows(path):
        try:
            shape = _shape(found, row, shapes)
            if shape is None and not first_columns:
                raise DataError(_unknown_columns(found))
            first_columns = first_columns or _names(found.row)
            if shape is None:
                raise InvalidRow(f"no known columns: {_names(found.row)}")
            made = list(make(found, row, shape))
        except InvalidRow as unfit:
            made = [Dropped(found.source, unfit.reason)]
        for one in made:
            yield one
            if not isinstance(one, Dropped):
                count += 1
            elif not count:
                dropped.append(one)
            if limit is not None and count >= limit:
                return
    left = list(rest())
    yield from left
    if not count:
        raise DataError(_nothing_left(path, dropped + left, first_columns, needs))


def _shape(found: Found, row: Columns, shapes: tuple[RowFormat, ...]) -> RowFormat | None:
    """The shape the row is written in; None when it is none of them. Raises Unfit when that cannot be told."""
    if found.fault:
        raise InvalidRow(found.fault)
    shape = next((shape for shape in shapes if shape.fits(row)), None)
    if shape is None and any(shape.fits(found.row) for shape in shapes):
        raise InvalidRow(f"null in every column that counts: {_names(found.row)}")
    return shape


def _rows(path: str | Path) -> Iterator[tuple[Found, Columns]]:
    for found in grown(read_container(path)):
        yield found, {name: value for name, value in found.row.items() if value is not None}


def _names(row: Columns) -> str:
    return ", ".join(map(str, row)) or "none"


def _unknown_columns(found: Found) -> str:
    shapes = "; ".join(f"{shape.name}: {shape.needs}" for shape in SHAPES)
    return f"{found.source}: the first row has the columns {_names(found.row)}, which make no known shape. Rename them. Read are {shapes}."


def _nothing_left(path: str | Path, dropped: list[Dropped], first_columns: str, needs: str) -> str:
    if not dropped:
        return f"{path}: holds no row. {needs}"
    reasons = "; ".join(map(str, count_dropped(dropped)))
    columns = f" The first row's columns: {first_columns}." if first_columns else ""
    first = f"the first, {dropped[0].source}, says: {dropped[0].reason}"
    return f"{path}: none of its {len(dropped)} rows can be used: {reasons}; {first}.{columns} {needs}"

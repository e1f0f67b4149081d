"""Read a table of texts: CSV with commas, or with semicolons or tabs where the first line has them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from palate.core import DataError

_SEPARATORS = (",", ";", "\t")
_LONGEST_CELL = 2**31 - 1

csv.field_size_limit(_LONGEST_CELL)  # the library's own limit is 131072 characters, and a conversation can be longer


def csv_rows(text: str, path: str, separator: str | None = None) -> Iterator[tuple[int, dict[str, object], str]]:
    """Yield the number of each row from 1, its cells by column, and why it cannot be used ("" if it can).

    Cells are texts, and an empty cell is null. Blank lines are skipped.

    Args:
        text: the table; its first line names the columns.
        path: the file, for messages.
        separator: what stands between cells; by default the first line decides.

    Raises:
        DataError: a column is named twice, or the text is not CSV.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator or _separator(text), strict=True)
    try:
        columns = [name.strip() for name in next(reader, [])]
        _check_columns(columns, path)
        for number, cells in enumerate(filter(None, reader), start=1):
            row: dict[str, object] = {name: cell or None for name, cell in zip(columns, cells, strict=False) if name}
            yield number, row, _fault(columns, cells)
    except csv.Error as error:
        raise DataError(
            f'{path}: not CSV near line {reader.line_num}: {error}. Quote cells with ", or write the rows as .jsonl.'
        ) from error


def _separator(text: str) -> str:
    """The comma, unless the first line is one cell with commas and several cells with another separator."""
    counts: dict[str, int] = {}
    for separator in _SEPARATORS:
        try:
            counts[separator] = len(next(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True), []))
        except csv.Error:
            counts[separator] = 0
    return "," if counts[","] > 1 else max(_SEPARATORS, key=lambda separator: counts[separator])


def _check_columns(columns: Sequence[str], path: str) -> None:
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise DataError(f"{path}:1: names the column {', '.join(map(repr, twice))} twice, so one of the two would be lost. Rename one.")


def _fault(columns: Sequence[str], cells: Sequence[str]) -> str:
    if len(cells) > len(columns):
        return "more cells than columns"
    return "fewer cells than columns" if len(cells) < len(columns) else ""

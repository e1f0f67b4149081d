"""The prompt of a row: its conversation, an id that no other row of the file has, and the user's columns."""

from __future__ import annotations

from palate.core import Conversation, Prompt
from palate.data.cells import Columns, InvalidRow, json_value
from palate.data.containers import SourceRow
from palate.data.formats.fields import fields_of
from palate.data.formats.preferences import vote_columns
from palate.data.formats.row_types import RowFormat
from palate.data.formats.standard_rows import SYSTEM_COLUMNS


class RowIds:
    """Gives each row an id that no other row of the file has."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def unique(self, wanted: str) -> str:
        """Return `wanted`, followed by #2, #3, ... if another row has it already."""
        name, count = wanted, 1
        while name in self._taken:
            count += 1
            name = f"{wanted}#{count}"
        self._taken.add(name)
        return name


def prompt_of_row(entry: SourceRow, row: Columns, shape: RowFormat, conversation: Conversation, ids: RowIds) -> Prompt:
    """The prompt of a row, with its id and the user's columns. Raises InvalidRow for an id or a column that cannot be kept."""
    known = {*shape.columns, *SYSTEM_COLUMNS, *(vote_columns(row) if shape.kind == "preferences" else ())}
    fields = {name: json_value(value, name) for name, value in fields_of(row, known).items()}
    return Prompt(ids.unique(_id(entry, row)), conversation, fields, entry.source)


def _id(entry: SourceRow, row: Columns) -> str:
    value = row.get("id", entry.place)
    if isinstance(value, float) and value.is_integer():  # a column of whole numbers with a gap, as pandas writes it
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise InvalidRow(f"`id` is not a string or a whole number: {value!r}")
    return str(value)

"""The user's own columns. Files that Palate writes keep them under `fields`, apart from the columns that a stage writes."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from palate.core import Conversation
from palate.data.cells import Columns, InvalidRow
from palate.data.formats.sampled import is_note, object_in

FIELDS = "fields"
"""The column of the user's columns. A column of this name that does not hold an object is one of the user's."""


def fields_of(row: Columns, known: Collection[str]) -> dict[str, object]:
    """The user's columns of a row: what stands under `fields`, and every column beside it that is not `known`.

    Raises:
        InvalidRow: a name stands in both places with two values.
    """
    held = object_in(row.get(FIELDS))
    fields = {name: value for name, value in (held or {}).items() if value is not None}
    for name, value in row.items():
        if name in known or name == "id" or (name == FIELDS and held is not None) or is_note(name, value):
            continue
        if name in fields and fields[name] != value:
            raise InvalidRow(f"a column stands in the row and in `fields` with two values: {name}")
        fields[name] = value
    return fields


def fields_column(fields: Mapping[str, object], conversation: Conversation) -> dict[str, object]:
    """The column `fields` of a row about a prompt, if there is anything to hold. Tools of the conversation have a column already."""
    has_tools = '"tools"' in conversation[0].tool_fields if conversation else False
    held = {name: value for name, value in fields.items() if not (name == "tools" and has_tools)}
    return {FIELDS: held} if held else {}

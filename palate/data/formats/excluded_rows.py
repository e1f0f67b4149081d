"""Rows that the stage that runs now leaves out, because their rater or their source was withdrawn."""

from __future__ import annotations

from collections.abc import Mapping

from palate.data.cells import InvalidRow
from palate.data.exclusions import excluded_now
from palate.data.formats.fields import FIELDS
from palate.data.rater_rows import mentions_of

EXCLUDED_SOURCE = "from a source that is excluded"
"""Why a row is left out whose source was withdrawn."""


def refuse_excluded(row: Mapping[str, object]) -> None:
    """Raise InvalidRow for a row that the stage that runs now leaves out.

    A preference with votes of several raters is left out as a whole: its label cannot be computed again without the one who is excluded.
    """
    excluded = excluded_now()
    if not excluded:
        return
    if any(excluded.has_rater(one.rater) for one in mentions_of(row)):
        raise InvalidRow("judged by a rater who is excluded")
    if excluded.has_source(source_of_row(row)):
        raise InvalidRow(EXCLUDED_SOURCE)


def source_of_row(row: Mapping[str, object]) -> str:
    """Return the value of the column `source` of a row, also where a stage wrote the row with the user's columns; "" without one."""
    fields = row.get(FIELDS)
    value = row.get("source") or (fields.get("source") if isinstance(fields, Mapping) else None)
    return value if isinstance(value, str) else ""

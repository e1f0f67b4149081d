"""Plain texts: `{"text": "Once upon a time ..."}`."""

from __future__ import annotations

from dataclasses import dataclass

from palate.data.cells import Columns, filled
from palate.data.formats.row_types import Document, RowKind


@dataclass(frozen=True)
class PlainTextFormat:
    """Rows with a text and no other column that Palate knows."""

    name: str = "text"
    kind: RowKind = "texts"
    needs: str = "`text` (a string)"
    columns: frozenset[str] = frozenset({"text"})

    def fits(self, row: Columns) -> bool:
        """Whether there is a `text`."""
        return "text" in row

    def parse(self, row: Columns) -> Document:
        """The text."""
        return Document(filled(row["text"], "text"))

"""Rows that a function of the user's turns into rows that Palate reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from palate.config.functions import load_function, raised
from palate.config.types import FunctionInput
from palate.data.cells import Columns, InvalidRow, quoted
from palate.data.formats.standard_rows import StandardRow, with_turns


@dataclass(frozen=True)
class ColumnsByFunction:
    """Rows that a Python function turns into rows of a shape that Palate reads.

    It gets the row as a mapping and returns another one. What it raises is the reason why a row is left out.

    Attributes:
        function: its import path, such as package.module:function.
        system: the column with the system text.
    """

    function: FunctionInput
    kind: Literal["function"] = "function"
    system: str = "system"

    def standard(self, row: Columns) -> StandardRow:
        """The row that the function makes. Raises InvalidRow with what the function raises, or if that is not a row."""
        try:
            made = _loaded(self.function)(dict(row))
        except Exception as error:
            raise InvalidRow(f"{self.function!r} {raised(error)}") from error
        if not isinstance(made, Mapping):
            raise InvalidRow(f"{self.function!r} returned {quoted(made)}, which is not a row")
        present = {str(name): value for name, value in made.items() if value is not None}
        return StandardRow(with_turns(present), set(row), set())


@cache
def _loaded(function: str) -> Callable[[Columns], object]:
    return load_function(function)

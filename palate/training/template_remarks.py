"""Write into a run what the chat template does to its rows, so that nothing is left out of what is learned without a word."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from palate.runs.run import Run
from palate.text.remarks import Remarks


class Remarked(Protocol):
    """Rows as trees, with remarks on them."""

    @property
    def source(self) -> str:
        """File and row."""
        ...

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the chat template does to the rows."""
        ...


def tell_of(run: Run, path: str, rows: Iterable[Remarked]) -> None:
    """Count the remarks on prompts of `path`, and record them in the run."""
    remarks = Remarks()
    for row in rows:
        remarks.add(row.source, row.remarks)
    run.note(path, remarks.lines())

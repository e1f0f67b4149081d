"""Who judged what in a file of rows, whatever else the rows hold: rows of judgments, of exchange, and of preferences with votes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from palate.data.jsonl import read_lines

JSON_LINES = (".jsonl", ".jsonl.gz")
"""Endings of files that are searched for raters."""


@dataclass(frozen=True, slots=True)
class RaterMention:
    """One judgment of a row: who gave it, under which version of the guidelines ("" if nobody knows), and on which dimension."""

    rater: str
    guideline: str = ""
    dimension: str = "overall"


def mentions_of(row: Mapping[str, object]) -> Iterator[RaterMention]:
    """Yield each judgment that the row holds. A row without raters holds none."""
    inner = row.get("judgment")
    one = inner if isinstance(inner, Mapping) else row
    dimension = str(one.get("dimension") or "overall")
    rater = one.get("rater")
    if isinstance(rater, str | int) and rater != "":  # in a file of exchange, a row may also describe a rater
        yield RaterMention(str(rater), str(one.get("guideline") or ""), dimension)
    raters, votes = row.get("raters"), row.get("votes")
    if isinstance(raters, list) and isinstance(votes, list) and len(raters) == len(votes):
        for rater, vote in zip(raters, votes, strict=True):
            if vote is not None:
                yield RaterMention(str(rater), "", dimension)


def raters_in(path: Path) -> Iterator[RaterMention]:
    """Yield each judgment of a file of JSON lines. Files of other kinds, and lines that are not rows, hold none.

    Raises:
        DataError: the file cannot be read.
    """
    if path.name.endswith(JSON_LINES):
        for line in read_lines(path):
            if not line.fault:
                yield from mentions_of(line.row)

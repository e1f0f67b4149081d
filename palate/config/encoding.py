"""What a file holds where UTF-8 text was expected, by its first bytes."""

from __future__ import annotations

from pathlib import Path

_MARKS = (
    (b"\xff\xfe\x00\x00", "UTF-32 text"),
    (b"\x00\x00\xfe\xff", "UTF-32 text"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "a ZIP archive, as an Excel workbook is"),
    (b"PAR1", "Parquet"),
    (b"SQLite format 3", "a SQLite database"),
    (b"%PDF", "a PDF"),
)
_REMEDIES = {
    "UTF-16 text": "Save the file as UTF-8",
    "UTF-32 text": "Save the file as UTF-8",
    "gzip": "Give it a name that ends in .gz",
    "Parquet": "Give it a name that ends in .parquet",
    "a ZIP archive, as an Excel workbook is": "Save the sheet as CSV in UTF-8, or unpack the archive",
}
HEAD = 64
"""How many first bytes are looked at."""


def utf8_text(path: Path) -> str:
    """The text of a file in UTF-8, without a byte order mark.

    Raises:
        ValueError: it is not such a text; the message names file, line and remedy.
        OSError: it cannot be read.
    """
    return decoded(path.read_bytes(), str(path))


def decoded(content: bytes, path: str) -> str:
    """The text in the bytes of a file. Raises ValueError as `utf8_text` does."""
    if problem := foreign_content(content[:HEAD]):
        raise ValueError(f"{path}:1: {problem}.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}:{line}: not UTF-8 (byte {error.start + 1}). Save the file as UTF-8.") from error


def foreign_content(head: bytes) -> str:
    """What the first bytes of a file show it to be instead of UTF-8 text, and the remedy; "" if it may be such text."""
    kind = next((name for mark, name in _MARKS if head.startswith(mark)), "")
    first = head[:HEAD]
    if not kind and len(first) > 3 and (not any(first[1::2]) or not any(first[::2])) and any(first):
        kind = "UTF-16 text"  # without a mark: every second byte of Latin letters is 0
    return f"is {kind}, not UTF-8 text. {_REMEDIES.get(kind, 'Give another file')}" if kind else ""

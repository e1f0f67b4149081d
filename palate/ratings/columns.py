"""Types of the columns. They refuse a text or a JSON value that one of the two databases cannot hold, whichever one is in use.

SQLite takes what PostgreSQL refuses: NUL characters, and texts longer than their column. What was once accepted could never be moved. So
every text is checked here, where it is bound to a statement, also one that is only looked for.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sqlalchemy import Dialect, String, Text
from sqlalchemy.exc import DontWrapMixin
from sqlalchemy.types import TypeDecorator

from palate.core import DataError

INDEXED_BYTES = 2000
"""Most bytes of a text that is part of an index. PostgreSQL's indexes take about 2700 bytes in all."""

_DIGEST_DIGITS = 12


class UnstorableError(DataError, DontWrapMixin):
    """A value that one of the databases cannot hold. SQLAlchemy passes it on as it is."""


class ShortText(TypeDecorator[str]):
    """Text of at most `length` characters, such as ids, kinds and keys."""

    impl = String
    cache_ok = True

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.length = length

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Return the value. Raises UnstorableError if it does not fit."""
        if value is not None:
            check_text(value, self.length)
        return value


class LongText(TypeDecorator[str]):
    """Text of any length."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Return the value. Raises UnstorableError if it does not fit."""
        if value is not None:
            check_text(value)
        return value


def is_unicode(value: str) -> bool:
    """Return whether UTF-8 can hold the value. It cannot hold half of a surrogate pair."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def is_text(value: str) -> bool:
    """Return whether a text column can hold the value. It cannot hold NUL (PostgreSQL) or half of a surrogate pair."""
    return not _fault(value)


def check_text(value: str, length: int | None = None) -> None:
    """Check that both databases can hold the text.

    Raises:
        UnstorableError: it holds a NUL character or half of a surrogate pair, or is longer than `length` characters.
    """
    if fault := _fault(value):
        shown = value[:60].encode("utf-8", "backslashreplace").decode("utf-8")
        raise UnstorableError(f"The text {shown!r} holds {fault}, which a database cannot store. Remove it.")
    if length is not None and len(value) > length:
        raise UnstorableError(f"The text {value[:60]!r}... has {len(value)} characters where {length} fit. Shorten it.")


def json_text(value: object) -> str:
    """Return the JSON of a column's value.

    Raises:
        UnstorableError: it holds a number that is not finite, or something else that JSON does not have.
    """
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UnstorableError(f"The value cannot be stored as JSON ({error}). Give finite numbers, texts, lists and objects.") from error


def storable(value: Any, column: ShortText | LongText, *, is_indexed: bool) -> Any:
    """Return the text of an older database as both databases can hold it: unchanged, if they can.

    Otherwise each bad character becomes U+FFFD, and the end becomes a digest of the former text. So different texts stay different, and
    equal ones equal. Texts of an index are also cut to what an index can hold.
    """
    if not isinstance(value, str):
        return value
    length = column.length if isinstance(column, ShortText) else None
    is_long = (length is not None and len(value) > length) or (is_indexed and len(value.encode("utf-8", "replace")) > INDEXED_BYTES)
    if not is_long and is_text(value):
        return value
    clean = value.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    digits = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_DIGITS]
    fits = INDEXED_BYTES // 4 if is_indexed else len(clean) + _DIGEST_DIGITS + 1  # a character has four bytes at most
    return f"{clean[: min(length or fits, fits) - _DIGEST_DIGITS - 1]}~{digits}"


def _fault(value: str) -> str:
    if "\0" in value:
        return "a NUL character"
    return "" if value.isascii() or is_unicode(value) else "half of a surrogate pair"

"""Values of outside rows with their types checked. Each error names the field."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar, cast

Columns = Mapping[str, object]
"""A row, or an object within one: name to value."""

MAX_DEPTH = 50
"""Levels of lists and objects that a further column may have."""

Choice = TypeVar("Choice", bound=str)


class InvalidRow(Exception):  # noqa: N818 - says what the row is
    """A row that cannot be used, with the reason. The reason's words before a colon are the same for all rows of a kind."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def invalid(field: str, problem: str) -> InvalidRow:
    """The error for a field that does not fit; its reason begins with the field."""
    return InvalidRow(f"`{field}` {problem}")


def quoted(value: object) -> str:
    """The value as a message shows it, cut after 60 characters."""
    written = "null" if value is None else repr(value)
    return written if len(written) <= 60 else written[:57] + "..."


def one_line(reason: str) -> str:
    """The reason on one line of about 500 characters at most, however long the row's own words in it are."""
    line = " ".join(reason.split()).encode("utf-8", "backslashreplace").decode("utf-8")
    return line if len(line) <= 500 else f"{line[:400]} ... {line[-80:]}"


def present(row: Columns, field: str) -> object:
    """The value of a field that the row must have. Raises InvalidRow if it is missing or null."""
    if row.get(field) is None:
        raise InvalidRow(f"no `{field}`: the row has {', '.join(map(repr, row)) or 'nothing'}"[:300])
    return row[field]


def only_known(row: Columns, known: Sequence[str], field: str) -> None:
    """Check that the row has no other names than `known`, since an unread field would be lost. Raises InvalidRow otherwise."""
    for key in row:
        if key not in known:
            raise invalid(f"{field}.{key}", f"is not known; {field} has {', '.join(known)}")


def text(value: object, field: str) -> str:
    """The value as a text, which may be empty. Raises InvalidRow for another type or half of a surrogate pair."""
    if not isinstance(value, str):
        raise invalid(field, f"is not a string: {quoted(value)}")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise invalid(field, f"is not valid Unicode: half a surrogate pair at character {error.start + 1}") from error
    return value


def filled(value: object, field: str) -> str:
    """The value as a text that is not blank. Raises InvalidRow otherwise."""
    checked = text(value, field)
    if not checked.strip():
        raise InvalidRow(f"empty `{field}`")
    return checked


def name(value: object, field: str) -> str:
    """The value as an id: a text that is not blank, or a whole number written as one. Raises InvalidRow otherwise."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**18:
        return str(value)
    return filled(value, field)


def boolean(value: object, field: str) -> bool:
    """True or false. Raises InvalidRow otherwise."""
    if not isinstance(value, bool):
        raise invalid(field, f"is not true or false: {quoted(value)}")
    return value


def number(value: object, field: str, *, least: float = -math.inf, most: float = math.inf) -> float:
    """A finite number from `least` to `most`. Raises InvalidRow otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise invalid(field, f"is not a number: {quoted(value)}")
    try:
        checked = float(value)
    except OverflowError as error:
        raise invalid(field, f"is too large: {quoted(value)}") from error
    if not math.isfinite(checked):
        raise invalid(field, f"is not a finite number: {value}")
    if not least <= checked <= most:
        raise invalid(field, f"is outside {least:g} to {most:g}: {value}")
    return checked


def whole(value: object, field: str, *, least: int, most: int) -> int:
    """A whole number from `least` to `most`. Raises InvalidRow otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise invalid(field, f"is not a whole number from {least} to {most}: {quoted(value)}")
    return value


def choice(value: object, field: str, known: Sequence[Choice]) -> Choice:
    """One of the words in `known`. Raises InvalidRow otherwise."""
    if not isinstance(value, str) or value not in known:
        raise invalid(field, f"is {quoted(value)}; it can be {', '.join(known)}")
    return known[known.index(cast("Choice", value))]


def mapping(value: object, field: str) -> Columns:
    """An object with strings for keys. Raises InvalidRow otherwise."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise invalid(field, f"is not an object: {quoted(value)}")
    return cast("Columns", value)


def sequence(value: object, field: str) -> Sequence[object]:
    """A list. Raises InvalidRow otherwise."""
    if not isinstance(value, list | tuple):
        raise invalid(field, f"is not a list: {quoted(value)}")
    return value


def whole_numbers(value: object, field: str) -> tuple[int, ...]:
    """A list of whole numbers from 0. Raises InvalidRow otherwise."""
    return tuple(whole(entry, field, least=0, most=10**6) for entry in sequence(value, field))


def tiers(value: object, field: str) -> tuple[tuple[int, ...], ...]:
    """Lists of whole numbers from 0, each with one number or more. Raises InvalidRow otherwise."""
    checked = tuple(whole_numbers(tier, field) for tier in sequence(value, field))
    if not all(checked):
        raise invalid(field, "has an empty tier")
    return checked


def json_value(value: object, field: str) -> object:
    """The value if it holds only JSON types, finite numbers and `MAX_DEPTH` levels at most. Raises InvalidRow otherwise."""
    waiting: list[tuple[object, int]] = [(value, 0)]
    while waiting:
        part, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise invalid(field, f"is nested more than {MAX_DEPTH} levels deep")
        if isinstance(part, str):
            text(part, field)
        elif isinstance(part, dict):
            waiting += [(key, depth + 1) for key in part] + [(inner, depth + 1) for inner in part.values()]
        elif isinstance(part, list):
            waiting += [(inner, depth + 1) for inner in part]
        elif isinstance(part, int | float):
            if isinstance(part, float) and not math.isfinite(part):
                raise invalid(field, f"holds a number that is not finite: {part}")
        elif part is not None:
            raise invalid(field, f"holds a value that JSON does not have: {quoted(part)}")
    return value

"""Values of outside rows with their types checked. Each error names the field.

The reader of a field says which type it needs. A text that spells such a value is taken for it, because a CSV file has only texts, and
exporters write numbers and lists as texts into other files too. So a cell never has to be guessed: a text stays a text where one is needed.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import TypeVar, cast

Columns = Mapping[str, object]
"""A row, or an object within one: name to value."""

MAX_DEPTH = 50
"""Levels of lists and objects that a further column may have."""

Choice = TypeVar("Choice", bound=str)

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_LONGEST_LITERAL = 2**20
_TRUTHS = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}


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
    if isinstance(value, float) and value.is_integer():  # a column of whole numbers with a gap, as pandas writes it
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**18:
        return str(value)
    return filled(value, field)


def truth(value: object) -> bool | None:
    """True or false if the value says so: as itself, as 1 or 0, or as a text of one of these. None if it says something else."""
    if isinstance(value, bool):
        return value
    return _TRUTHS.get(str(value).strip().lower()) if isinstance(value, int | float | str) else None


def boolean(value: object, field: str) -> bool:
    """True or false, also as `truth` reads it. Raises InvalidRow otherwise."""
    checked = truth(value)
    if checked is None:
        raise invalid(field, f"is not true or false: {quoted(value)}")
    return checked


def number(value: object, field: str, *, least: float = -math.inf, most: float = math.inf) -> float:
    """A finite number from `least` to `most`, or the text of one with a decimal point. Raises InvalidRow otherwise."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
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
    """A whole number from `least` to `most`, or the text of one; 2.0 counts as 2. Raises InvalidRow otherwise."""
    given = value
    if isinstance(value, str) and len(value) < 30 and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise invalid(field, f"is not a whole number from {least} to {most}: {quoted(given)}")
    return value


def choice(value: object, field: str, known: Sequence[Choice]) -> Choice:
    """One of the words in `known`. Raises InvalidRow otherwise."""
    if not isinstance(value, str) or value not in known:
        raise invalid(field, f"is {quoted(value)}; it can be {', '.join(known)}")
    return known[known.index(cast("Choice", value))]


def mapping(value: object, field: str) -> Columns:
    """An object with strings for keys, or the text of one. Raises InvalidRow otherwise."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = spelled(value, field)
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise invalid(field, f"is not an object: {quoted(value)}")
    return cast("Columns", value)


def sequence(value: object, field: str) -> Sequence[object]:
    """A list, or the text of one. Raises InvalidRow otherwise."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = spelled(value, field)
    if not isinstance(value, list | tuple):
        raise invalid(field, f"is not a list: {quoted(value)}")
    return value


def list_or_text(value: object, field: str) -> object:
    """The value, or the list that a text spells. Another text stays as it is."""
    return list(sequence(value, field)) if isinstance(value, str) and value.lstrip().startswith("[") else value


def scalar_or_list(value: object, field: str) -> object:
    """The value, or the list, the truth value or the whole number that a text spells, for a field that can be any of these."""
    if not isinstance(value, str):
        return value
    word = value.strip()
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    return int(word) if _NUMBER.fullmatch(word) and word.isdigit() else list_or_text(value, field)


def spelled(written: str, field: str) -> object:
    """The list or object that a text spells, as JSON or as Python prints it (pandas writes lists to CSV like this).

    Raises:
        InvalidRow: it is neither.
    """
    try:
        return cast("object", json.loads(written))
    except (ValueError, RecursionError):
        try:
            return cast("object", ast.literal_eval(written.strip() if len(written) <= _LONGEST_LITERAL else "?"))
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise invalid(field, f"is a text that begins like a list or an object and is neither as JSON: {quoted(written)}") from error


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

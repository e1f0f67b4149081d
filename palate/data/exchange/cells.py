"""Values of outside rows with their types checked; each fault names the field."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar, cast

from palate.core import Conversation, Message
from palate.data.cells import ROLES, conversation
from palate.data.exchange.exchange import Tiers
from palate.data.formats.row_types import InvalidRow

Columns = Mapping[str, object]
"""A row, or an object within one."""

DEEPEST = 50
"""Levels of lists and objects that a further column may have."""

Choice = TypeVar("Choice", bound=str)


def invalid(field: str, problem: str) -> InvalidRow:
    """The error for a row that does not fit its shape; the message begins with the field."""
    return InvalidRow(f"`{field}` {problem}")


def shown(value: object) -> str:
    """The value for a message, cut short."""
    said = repr(value)
    return said if len(said) <= 60 else said[:57] + "..."


def brief(reason: str) -> str:
    """The reason on one line of some 500 characters at most, though the row's own words in it may be many."""
    line = " ".join(reason.split()).encode("utf-8", "backslashreplace").decode("utf-8")
    return line if len(line) <= 500 else f"{line[:400]} ... {line[-80:]}"


def text(value: object, field: str) -> str:
    """The value as a text, which may be empty. Raises Fault for another type or half a surrogate pair."""
    if not isinstance(value, str):
        raise invalid(field, f"is not a string: {shown(value)}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise invalid(field, f"is not valid Unicode: half a surrogate pair at character {error.start + 1}") from error
    return value


def name(value: object, field: str) -> str:
    """The value as an id: a text that is not blank, or a whole number written as one. Raises Fault otherwise."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**18:
        return str(value)
    said = text(value, field)
    if not said.strip():
        raise invalid(field, "is empty")
    return said


def truth(value: object, field: str) -> bool:
    """True or false. Raises Fault otherwise."""
    if not isinstance(value, bool):
        raise invalid(field, f"is not true or false: {shown(value)}")
    return value


def number(value: object, field: str, *, least: float = -math.inf, most: float = math.inf) -> float:
    """A finite number from `least` to `most`. Raises Fault otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise invalid(field, f"is not a number: {shown(value)}")
    try:
        found = float(value)
    except OverflowError as error:
        raise invalid(field, f"is too large: {shown(value)}") from error
    if not math.isfinite(found):
        raise invalid(field, f"is not a finite number: {value}")
    if not least <= found <= most:
        raise invalid(field, f"is outside {least:g} to {most:g}: {value}")
    return found


def whole(value: object, field: str, *, least: int, most: int) -> int:
    """A whole number from `least` to `most`. Raises Fault otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise invalid(field, f"is not a whole number from {least} to {most}: {shown(value)}")
    return value


def choice(value: object, field: str, known: Sequence[Choice]) -> Choice:
    """One of the words known. Raises Fault otherwise."""
    if not isinstance(value, str) or value not in known:
        raise invalid(field, f"is {shown(value)}; it can be {', '.join(known)}")
    return known[known.index(cast("Choice", value))]


def mapping(value: object, field: str) -> Columns:
    """An object with names for keys. Raises Fault otherwise."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise invalid(field, f"is not an object: {shown(value)}")
    return cast("Columns", value)


def sequence(value: object, field: str) -> Sequence[object]:
    """A list. Raises Fault otherwise."""
    if not isinstance(value, list | tuple):
        raise invalid(field, f"is not a list: {shown(value)}")
    return value


def present(row: Columns, field: str) -> object:
    """The value of a field that must be there. Raises Fault when it is missing or null."""
    if row.get(field) is None:
        raise invalid(field, f"is missing; the row has {', '.join(map(repr, row)) or 'nothing'}"[:300])
    return row[field]


def only(row: Columns, known: Sequence[str], field: str) -> None:
    """Nothing. Raises Fault where the row has a name that is not known: what is not read would be lost in silence."""
    for key in row:
        if key not in known:
            raise invalid(f"{field}.{key}", f"is not known; {field} has {', '.join(known)}")


def numbers(value: object, field: str) -> tuple[int, ...]:
    """A list of whole numbers from 0. Raises Fault otherwise."""
    return tuple(whole(one, field, least=0, most=10**6) for one in sequence(value, field))


def tiers(value: object, field: str) -> Tiers:
    """Lists of whole numbers from 0, none of them empty. Raises Fault otherwise."""
    found = tuple(numbers(tier, field) for tier in sequence(value, field))
    if not all(found):
        raise invalid(field, "has an empty tier")
    return found


def plain(value: object, field: str) -> object:
    """The value, made of JSON's own types, finite and not too deep. Raises Fault otherwise."""
    left: list[tuple[object, int]] = [(value, 0)]
    while left:
        one, depth = left.pop()
        if depth > DEEPEST:
            raise invalid(field, f"is nested more than {DEEPEST} levels deep")
        if isinstance(one, str):
            text(one, field)
        elif isinstance(one, dict):
            left += [(key, depth + 1) for key in one] + [(inner, depth + 1) for inner in one.values()]
        elif isinstance(one, list):
            left += [(inner, depth + 1) for inner in one]
        elif isinstance(one, int | float):
            if isinstance(one, float) and not math.isfinite(one):
                raise invalid(field, f"holds a number that is not finite: {one}")
        elif one is not None:
            raise invalid(field, f"holds a value that JSON does not have: {shown(one)}")
    return value


def asked(value: object, field: str) -> Conversation:
    """A conversation: messages as outside data write them, or a text as the user's turn. Raises Fault or Unfit otherwise."""
    if isinstance(value, str):
        said = text(value, field)
        if not said.strip():
            raise invalid(field, "is empty")
        return (Message("user", said),)
    turns = [_turn(turn) for turn in sequence(value, field)]
    return conversation(turns, field)


def turns(value: object, field: str) -> Conversation:
    """Messages whose texts may be empty: a model can have said nothing. Raises Fault for anything else."""
    found = [mapping(turn, field) for turn in sequence(value, field)]
    roles = [choice(turn.get("role"), f"{field}.role", tuple(ROLES)) for turn in found]
    said = (text(present(turn, "content"), f"{field}.content") for turn in found)
    return tuple(Message(ROLES[role], content) for role, content in zip(roles, said, strict=True))


def _turn(value: object) -> object:
    """A message with the names that paragraphs of Label Studio use (`author`, `text`) read as `role` and `content`."""
    if not isinstance(value, dict) or not {"author", "text"} & value.keys():
        return value
    return {"role": value.get("role", value.get("author")), "content": value.get("content", value.get("text")), **value}

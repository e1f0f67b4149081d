"""Values of columns with their types checked: texts, numbers, conversations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

from palate.core import Conversation, Message, Role
from palate.data.formats.row_types import Columns, InvalidRow
from palate.data.formats.tools import tool_fields

ROLES: Mapping[str, Role] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "developer": "system",
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "function": "tool",
    "observation": "tool",
}
"""Role names found in data (OpenAI's, ShareGPT's, Gemma's) and what they are here."""

CONTEXT_ROLES = ("user", "tool")
"""Roles an assistant turn can answer."""


def column(row: Columns, name: str) -> object:
    """The value of a column. Raises Unfit when the row has none."""
    if name not in row:
        raise InvalidRow(f"no `{name}`")
    return row[name]


def text(value: object, name: str) -> str:
    """The value as a text that can be encoded. Raises Unfit for another type or half a surrogate pair."""
    if not isinstance(value, str):
        raise InvalidRow(f"`{name}` is not a string: {_kind(value)}")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InvalidRow(f"`{name}` is not valid Unicode: half a surrogate pair at character {error.start + 1}") from error
    return value


def filled(value: object, name: str) -> str:
    """The value as a text that is not blank. Raises Unfit otherwise."""
    checked = text(value, name)
    if not checked.strip():
        raise InvalidRow(f"empty `{name}`")
    return checked


def number(row: Columns, name: str, default: float, *, most: float = math.inf, least: float = -math.inf) -> float:
    """A finite number from `least` to `most`, `default` when the row has none. Raises Unfit otherwise."""
    value = row.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRow(f"`{name}` is not a number: {_kind(value)}")
    if not math.isfinite(value) or not least <= value <= most:
        raise InvalidRow(f"`{name}` is outside {least:g} to {most:g}: {value}")
    return float(value)


def conversation(value: object, name: str) -> Conversation:
    """Messages from a list of {role, content} (or ShareGPT's {from, value}). Raises Unfit for anything else, or an empty turn."""
    if not isinstance(value, list | tuple):
        raise InvalidRow(f"`{name}` is not a list of messages: {_kind(value)}")
    if not value:
        raise InvalidRow(f"empty `{name}`")
    return tuple(_message(entry, f"`{name}` turn {number}") for number, entry in enumerate(value, start=1))


def shared_length(one: Sequence[object], other: Sequence[object]) -> int:
    """How many items both begin with."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _message(entry: object, where: str) -> Message:
    if not isinstance(entry, dict):
        raise InvalidRow(f"a message is not a mapping: {where} is {_kind(entry)}")
    fields = cast("dict[object, object]", entry)
    role = fields.get("role", fields.get("from"))
    content = fields.get("content", fields.get("value"))
    if not isinstance(role, str) or role.lower() not in ROLES:
        raise InvalidRow(f"unknown role: {where} has {role!r}, read are {', '.join(ROLES)}")
    content = "".join(_part(part, where) for part in content) if isinstance(content, list | tuple) else content
    known = ROLES[role.lower()]
    about_tools = tool_fields(fields, known, where)
    if content is None and known == "assistant" and about_tools:
        content = ""
    if not isinstance(content, str):
        raise InvalidRow(f"a message without text: {where} has {_kind(content)}")
    if known != "system" and not content.strip() and not (known == "assistant" and about_tools):
        raise InvalidRow("empty completion" if known == "assistant" else f"empty turn: {where} ({role})")
    return Message(known, text(content, "content"), about_tools)


def _part(part: object, where: str) -> str:
    """The text of one part of a message in parts."""
    fields = cast("dict[object, object]", part) if isinstance(part, dict) else {}
    content = fields.get("text")
    if fields.get("type") != "text" or not isinstance(content, str):
        raise InvalidRow(f"a message part that is not text: {where} has {fields.get('type')!r}")
    return content


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__

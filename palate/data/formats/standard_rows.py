"""Rows under the column names that the shapes have: how a conversation is put together from a question, a system text and an answer."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from palate.data.cells import Columns, InvalidRow, filled, mapping, quoted, sequence, spelled, text

SYSTEM_COLUMNS = ("system", "system_prompt")
"""Columns with a system text, which becomes the first turn."""

TURN_COLUMNS = ("prompt", "completion", "chosen", "rejected", "messages", "conversations")
"""Columns that hold turns, or plain text."""

_TURNS = re.compile(r"""\s*\[\s*\{\s*["'](?:role|from|content|value)["']\s*:""")
_TURN_KEYS = ({"role", "content"}, {"from", "value"}, {"role", "tool_calls"})


@dataclass(frozen=True, slots=True)
class StandardRow:
    """A row under the names of the shapes.

    Attributes:
        row: the columns that are not null.
        read: the file's own names of columns that were read under another name.
        hidden: columns that are not read although they have a name that Palate knows, because the settings say so.
    """

    row: Columns
    read: Collection[str] = ()
    hidden: Collection[str] = ()


def renamed(row: Columns, names: Mapping[str, str]) -> StandardRow:
    """The row with the column `names[name]` under `name`. The file's own column `name` is hidden: it is not what the user means.

    An empty text says that no column holds `name`.
    """
    changed = {name: column for name, column in names.items() if column != name}
    if not changed:
        return StandardRow(row)
    hidden = {*changed, *(SYSTEM_COLUMNS if "system" in changed else ())} - {*changed.values()}
    kept = {name: value for name, value in row.items() if name not in {*changed, *changed.values(), *hidden}}
    found = {name: row[column] for name, column in changed.items() if column in row}
    return StandardRow({**kept, **found}, {*changed.values()}, hidden)


def with_turns(row: Columns) -> Columns:
    """The row with messages as lists where a text spells them, or where one message stands alone.

    Raises:
        InvalidRow: a text begins as messages do and cannot be read as such.
    """
    changed = {name: _turns(row[name], name) for name in TURN_COLUMNS if name in row}
    return {**row, **changed}


def is_spelled_turns(value: object) -> bool:
    """Whether the value is a text that begins as the JSON of messages does."""
    return isinstance(value, str) and _TURNS.match(value) is not None


def _turns(value: object, name: str) -> object:
    if is_spelled_turns(value):
        value = spelled(cast("str", value), name)
    if name != "prompt" and isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict) and value[0].get("role") == "text":
        return value[0].get("content")
    if isinstance(value, dict) and any(keys <= value.keys() for keys in _TURN_KEYS):
        return [value]
    return value


def system_text(row: Columns) -> str:
    """The row's system text; "" if there is none.

    Raises:
        InvalidRow: the column does not hold a text, or two columns hold different ones.
    """
    texts = dict.fromkeys(text(row[name], name) for name in SYSTEM_COLUMNS if row.get(name) is not None)
    given = [system for system in texts if system.strip()]
    if len(given) > 1:
        raise InvalidRow(f"two system texts: {' and '.join(f'`{name}`' for name in SYSTEM_COLUMNS)} differ")
    return given[0] if given else ""


def user_turn(question: object, name: str, further: object = None, further_name: str = "input") -> dict[str, object]:
    """The user's turn with the question and, below it, the further text where there is one."""
    asked = filled(question, name)
    added = "" if further is None else text(further, further_name)
    return {"role": "user", "content": f"{asked}\n\n{added}" if added.strip() else asked}


def earlier_turns(history: object, name: str) -> list[dict[str, object]]:
    """The turns of a history: a list of pairs of what the user and the assistant said."""
    turns: list[dict[str, object]] = []
    for pair in sequence([] if history is None else history, name):
        said = sequence(pair, name)
        if len(said) != 2:
            raise InvalidRow(f"`{name}` is not a list of pairs: {quoted(pair)}")
        turns += [{"role": role, "content": filled(words, name)} for role, words in zip(("user", "assistant"), said, strict=True)]
    return turns


def is_answer(value: object) -> bool:
    """Whether the value can be the assistant's turn. A number can be that of a choice, and several answers are something to grade by."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(turn, dict) for turn in value)
    return isinstance(value, str | dict)


def answer_turn(answer: object, name: str) -> list[object]:
    """The assistant's turn: a text, one message, or a list with it."""
    turns = _turns(answer, name)
    if isinstance(turns, str):
        if not text(turns, name).strip():
            raise InvalidRow("empty completion")
        return [{"role": "assistant", "content": turns}]
    return list(sequence(turns, name))


def retagged(turns: object, name: str, tags: Mapping[str, str], roles: Mapping[str, str]) -> list[object]:
    """Messages with `role` and `content` in place of a file's own names, and its own roles replaced.

    Args:
        turns: a list of messages, the text of one, or one message.
        name: the column.
        tags: what the file calls `role` and `content`.
        roles: Palate's name of each role by the file's.
    """
    made: list[object] = []
    for entry in sequence([turns] if isinstance(turns, dict) else turns, name):
        turn = mapping(entry, name)
        rest = {key: value for key, value in turn.items() if key not in tags.values()}
        named = {own: turn[tag] for own, tag in tags.items() if tag in turn}
        made.append({**rest, **named, **({"role": roles[str(named["role"])]} if named.get("role") in roles else {})})
    return made


def without(row: Columns, names: Sequence[str]) -> dict[str, object]:
    """The row without columns that were read."""
    return {name: value for name, value in row.items() if name not in names}

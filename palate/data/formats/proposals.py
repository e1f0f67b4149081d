"""What the columns of a row probably hold, from their names and values: a line for the setting `columns` that a person reads and pastes."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from palate.config.settings import parse_word
from palate.data.cells import Columns, InvalidRow, one_line, sequence, truth
from palate.data.formats.column_names import METADATA, SAID_BY_USER, USUAL_NAMES
from palate.data.formats.standard_rows import is_spelled_turns

ROLE_FIELDS = ("role", "from", "speaker", "author", "sender", "who")
CONTENT_FIELDS = ("content", "value", "text", "message", "utterance", "body")

PLACEHOLDER = "COLUMN"
"""Stands in a line for a column that nobody knows."""


@dataclass(frozen=True)
class Proposal:
    """What the columns of a file probably hold.

    Attributes:
        shape: the nearest shape, in words.
        columns: the setting `columns`: `kind` where one is needed, and names with the file's columns.
        missing: what that shape needs and no column seems to hold.
    """

    shape: str
    columns: Mapping[str, str]
    missing: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The line of YAML that says it."""
        pairs = {**self.columns, **dict.fromkeys(self.missing, PLACEHOLDER)}
        return f"columns: {{{', '.join(f'{name}: {_plain(column)}' for name, column in pairs.items())}}}"

    @property
    def words(self) -> tuple[str, ...]:
        """The same as `palate inspect --columns` takes it."""
        return tuple(column if name == "kind" else f"{name}={column}" for name, column in self.columns.items())


def propose(row: Columns) -> Proposal:
    """Return what the columns of a row probably hold, in the nearest shape."""
    for name, value in row.items():
        if (messages := _messages(value)) is not None:
            return _of_messages(name, messages)
    found = {role: column for role in USUAL_NAMES if (column := _column(row, role)) is not None}
    sides = [side for side in ("chosen", "rejected") if side in found]
    if sides:
        return _of_text(row, found, ("prompt", "chosen", "rejected"), "a preference")
    if "completion" in found or ("prompt" in found and len(_texts(row, found.values())) == 1):
        return _of_text(row, found, ("prompt", "completion"), "a prompt with its completion")
    if "prompt" in found:
        return Proposal("a prompt", {"prompt": found["prompt"]})
    if "text" in found or len(_texts(row, ())) == 1:
        return Proposal("a text", {"text": found.get("text") or _texts(row, ())[0]})
    return Proposal("a prompt with its completion", {}, ("prompt", "completion"))


def shape_text(source: str, row: Columns) -> str:
    """Return the message about a row whose columns make no shape, in three lines: what it has, the nearest shape, and what to do."""
    proposal = propose(row)
    lacks = f", and no column seems to hold {' or '.join(f'`{name}`' for name in proposal.missing)}" if proposal.missing else ""
    remedy = "Name the column in place of COLUMN and write" if proposal.missing else "Write"
    return (
        f"{source}: the row has the columns {one_line(', '.join(map(str, row)) or 'none')}, which do not make a known shape.\n"
        f"The nearest shape is {proposal.shape}{lacks}.\n"
        f"{remedy} this line in the stage's settings, if that is what they hold: {proposal.line} (docs/data.md shows every shape)"
    )


def absent_text(source: str, whose: str, absent: Sequence[str], row: Columns) -> str:
    """Return the message about columns that the setting names and that are not there: which are, and which of them is nearest.

    Args:
        source: the file or the row.
        whose: `no row has` them, or `the first row does not have` them.
        absent: their names.
        row: the first row.
    """
    own = [str(name) for name in row]
    near = {name: close[0] for name in absent if (close := difflib.get_close_matches(name.lower(), own, n=1))}
    offers = f" Did you mean {' and '.join(map(repr, near.values()))}?" if near else " Name one of these."
    named = ", ".join(map(repr, sorted(absent)))
    return f"{source}: {whose} the column {named} that `columns` names. The first row has {one_line(', '.join(own) or 'none')}.{offers}"


def _plain(column: str) -> str:
    """A column's name as YAML."""
    is_plain = re.fullmatch(r"[A-Za-z_][\w-]*", column) and isinstance(parse_word(column), str)  # a word such as null or off is not
    return column if is_plain else json.dumps(column, ensure_ascii=False)


def _known(name: str) -> str:
    return re.sub(r"[-\s.]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)).lower()


def _column(row: Columns, role: str) -> str | None:
    """The column that plays a role by its name, in the order of the usual names."""
    fits = _FITS.get(role, _is_text)
    names = {_known(name): name for name, value in reversed(row.items()) if fits(value)}  # type: ignore[call-overload]
    return next((names[usual] for usual in USUAL_NAMES[role] if usual in names), None)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


_FITS: Mapping[str, Callable[[object], bool]] = {"label": lambda value: truth(value) is not None}


def _texts(row: Columns, taken: object) -> list[str]:
    """The columns with a text of several words that say nothing about the row and are not taken."""
    used = set(cast("Sequence[str]", taken))
    return [name for name, value in row.items() if _is_text(value) and name not in used and _known(name) not in METADATA]


def _of_text(row: Columns, found: Mapping[str, str], needs: tuple[str, ...], shape: str) -> Proposal:
    """The proposal for texts: in turns where the prompt is what a user says, else as plain text."""
    columns = {name: found[name] for name in needs if name in found}
    missing = [name for name in needs if name not in columns]
    left = _texts(row, found.values())
    if len(missing) == len(left) == 1:
        columns, missing = {**columns, missing[0]: left[0]}, []
    columns = {name: columns[name] for name in needs if name in columns}
    prompt = columns.get("prompt", "")
    if _known(prompt) == "instruction" and (context := _column(row, "context")) is not None and not missing:
        return _of_instruction(columns, context, shape)
    if "system" in found and found["system"] != "system":
        columns["system"] = found["system"]
    if "completion" in columns and "label" in found:
        columns["label"], shape = found["label"], "a completion with a label"
    if _known(prompt) in SAID_BY_USER and "label" not in columns:
        names = {"prompt": "question", "completion": "answer"}
        missing = [names.get(name, name) for name in missing]
        columns = {"kind": "question_answer", **{names.get(name, name): column for name, column in columns.items()}}
    return Proposal(shape, _without_usual(columns), tuple(missing))


def _of_instruction(columns: Mapping[str, str], context: str, shape: str) -> Proposal:
    first = {"instruction": columns["prompt"], "input": context}
    if "completion" in columns:
        return Proposal(shape, _without_usual({"kind": "alpaca", **first, "output": columns["completion"]}))
    sides = {side: columns[side] for side in ("chosen", "rejected")}
    return Proposal(shape, _without_usual({"kind": "llama_factory", **first, **sides}))


def _without_usual(columns: Mapping[str, str]) -> dict[str, str]:
    """The columns without those that have the usual name; a lone kind needs no further name."""
    return {name: column for name, column in columns.items() if name != column}


def _messages(value: object) -> list[Columns] | None:
    """The messages in a value, or in the text that spells them; None where it holds none."""
    if is_spelled_turns(value):
        try:
            value = sequence(value, "")
        except InvalidRow:
            return None
    is_list = isinstance(value, list) and bool(value) and all(isinstance(turn, dict) for turn in value)
    messages = cast("list[Columns]", value) if is_list else []
    return messages if messages and _field(messages, ROLE_FIELDS) and _field(messages, CONTENT_FIELDS) else None


def _field(messages: Sequence[Columns], names: Sequence[str]) -> str:
    return next((name for name in names if all(isinstance(turn.get(name), str) for turn in messages)), "")


def _of_messages(column: str, messages: Sequence[Columns]) -> Proposal:
    """The proposal for a column of messages, with the file's own names of fields and roles."""
    role, content = _field(messages, ROLE_FIELDS), _field(messages, CONTENT_FIELDS)
    speakers = [name for name in dict.fromkeys(str(turn[role]) for turn in messages) if name.lower() not in {"system", "tool"}]
    user, assistant = (*speakers, "", "")[:2]
    usual = {"user": ("user", "human"), "assistant": ("assistant", "gpt")}
    given = {"role": role, "content": content, "user": user, "assistant": assistant}
    if (role, content) == ("role", "content") and user in usual["user"] and assistant in (*usual["assistant"], ""):
        return Proposal("messages", {"messages": column})
    own = {"role": "from", "content": "value", "user": "human", "assistant": "gpt"}
    return Proposal("messages", {"kind": "sharegpt", "messages": column, **{k: v for k, v in given.items() if v and v != own[k]}})

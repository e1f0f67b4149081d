"""What a row says, whatever its shape. The readers make the nouns of `palate.core` from it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from palate.core import Completion, Conversation, Message
from palate.data.cells import Columns, InvalidRow
from palate.data.conversations import json_or_none, without_nulls
from palate.data.formats.standard_rows import SYSTEM_COLUMNS, system_text


@dataclass(frozen=True, slots=True)
class Document:
    """A plain text."""

    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt alone."""

    prompt: Conversation


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation, the numbers of the turns to learn (possibly none), and how many turns are its prompt."""

    conversation: Conversation
    learned: tuple[int, ...]
    prompt_turns: int


@dataclass(frozen=True, slots=True)
class PairRow:
    """A prompt with a better and a worse completion; `calls` are the `tool_fields` of both."""

    prompt: Conversation
    chosen: str
    rejected: str
    calls: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class LabelledCompletion:
    """A prompt with one completion, and whether it is desirable."""

    prompt: Conversation
    completion: str
    desirable: bool
    calls: str = ""


@dataclass(frozen=True, slots=True)
class RatedCompletion:
    """A completion and its ratings by dimension; higher is better. The default dimension is `MEAN`."""

    text: str
    ratings: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class RatedCompletions:
    """A prompt with rated completions. `is_scaled` is False for ranks, whose differences do not say how much better."""

    prompt: Conversation
    answers: tuple[RatedCompletion, ...]
    is_scaled: bool = True


@dataclass(frozen=True, slots=True)
class RatedGroups:
    """Rated completions of one prompt, or of several in a tree of messages. Those in `alone` have nothing to be compared with."""

    groups: tuple[RatedCompletions, ...]
    alone: tuple[RatedCompletions, ...] = ()


@dataclass(frozen=True, slots=True)
class SampledCompletions:
    """A prompt with completions that nobody has judged."""

    prompt: Conversation
    completions: tuple[Completion, ...]


MEAN = "mean"
"""The dimension that combines all ratings of how good a completion is. Each shape says which ratings those are."""

Content = Document | Question | Dialogue | PairRow | LabelledCompletion | RatedGroups | SampledCompletions


RowKind = Literal["demonstrations", "preferences", "unpaired", "prompts", "texts"]
"""What rows are read as: the name of a reader."""


class RowFormat(Protocol):
    """One outside dataset shape."""

    @property
    def name(self) -> str:
        """Its name in messages and in the documentation."""
        ...

    @property
    def kind(self) -> RowKind:
        """What its rows are read as by default."""
        ...

    @property
    def needs(self) -> str:
        """The columns that it needs, in words."""
        ...

    @property
    def columns(self) -> Collection[str]:
        """Columns that the shape reads. Other columns become fields of the prompt (`palate.data.formats.fields`)."""
        ...

    def fits(self, row: Columns) -> bool:
        """Whether the row has the columns of this shape; its values may still be wrong."""
        ...

    def parse(self, row: Columns) -> Content:
        """What the row says. Raises InvalidRow with the reason if it cannot be used."""
        ...


def content_of(shape: RowFormat, row: Columns) -> Content:
    """What a row of the shape says, with the row's system text and `tools`. Raises InvalidRow with the reason if it cannot be used."""
    return _with_tools_of(_with_system_of(shape.parse(row), row), row)


def _with_system_of(content: Content, row: Columns) -> Content:
    """The content with the row's system text as the first turn. A row with a column for it is a conversation, even if that is empty."""
    if not any(name in row for name in SYSTEM_COLUMNS) or isinstance(content, Document):
        return content
    system = system_text(row)
    match content:
        case Question(turns) | PairRow(turns) | LabelledCompletion(turns) | SampledCompletions(turns):
            return replace(content, prompt=_under_system(turns, system))
        case Dialogue(turns, learned, count):
            spoken = tuple(Message("user" if k < count else "assistant", t.text) if t.role == "text" else t for k, t in enumerate(turns))
            whole = _under_system(spoken, system)
            added = len(whole) - len(turns)
            return Dialogue(whole, tuple(turn + added for turn in learned), count + added)
        case RatedGroups(groups, alone):
            return RatedGroups(*(tuple(replace(g, prompt=_under_system(g.prompt, system)) for g in several) for several in (groups, alone)))


def _under_system(turns: Conversation, system: str) -> Conversation:
    chat = tuple(Message("user", turn.text) if turn.role == "text" else turn for turn in turns)
    if not system:
        return chat
    if chat[0].role != "system":
        return (Message("system", system), *chat)
    if chat[0].text.strip() != system.strip():
        raise InvalidRow("two system texts: the column's differs from the conversation's own")
    return chat


def _with_tools_of(content: Content, row: Columns) -> Content:
    """The content with the row's `tools` in the first turn of each conversation. Plain texts stay as they are.

    Raises:
        InvalidRow: `tools` is not a list of function descriptions, or JSON text of one.
    """
    if "tools" not in row or isinstance(content, Document):
        return content
    tools = row["tools"]
    if isinstance(tools, str):
        tools = json_or_none(tools) if tools.strip() else []
    if not isinstance(tools, list | tuple) or not all(isinstance(tool, dict) and ("function" in tool or "name" in tool) for tool in tools):
        raise InvalidRow("`tools` is not a list of functions: each needs a `function` or a `name`")
    return _with_tools(content, [without_nulls(tool) for tool in tools]) if tools else content


def _with_tools(content: Content, tools: list[object]) -> Content:
    match content:
        case Question(turns) | PairRow(turns) | LabelledCompletion(turns) | SampledCompletions(turns):
            return replace(content, prompt=_with_tools_in_first(turns, tools))
        case Dialogue(turns):
            return replace(content, conversation=_with_tools_in_first(turns, tools))
        case RatedGroups(groups, alone):
            return RatedGroups(
                *(
                    tuple(replace(group, prompt=_with_tools_in_first(group.prompt, tools)) for group in several)
                    for several in (groups, alone)
                )
            )
        case Document():
            return content


def _with_tools_in_first(turns: Conversation, tools: list[object]) -> Conversation:
    first = turns[0]
    if first.role == "text":
        return turns
    fields = json.loads(first.tool_fields) if first.tool_fields else {}
    return (Message(first.role, first.text, json.dumps({**fields, "tools": tools}, ensure_ascii=False)), *turns[1:])

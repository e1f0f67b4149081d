"""What a row says, whatever the shape it was written in; the readers make the nouns of `palate.core` from it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from palate.core import Conversation

Columns = Mapping[str, object]
"""A row: column name to value. Columns that hold null are not there."""


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
    """A conversation, the turns to learn from (may be none), and how many turns are its prompt."""

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
    """A prompt with one completion that is wanted, or not."""

    prompt: Conversation
    completion: str
    desirable: bool
    calls: str = ""


@dataclass(frozen=True, slots=True)
class RatedCompletion:
    """A completion and its ratings by dimension, higher is better; `MEAN` is the dimension taken when none is named."""

    text: str
    ratings: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class RatedCompletions:
    """A prompt with rated completions; `is_scaled`: a difference of ratings says how much better (of ranks it does not)."""

    prompt: Conversation
    answers: tuple[RatedCompletion, ...]
    is_scaled: bool = True


@dataclass(frozen=True, slots=True)
class RatedGroups:
    """Rated completions, of one prompt or (a tree of messages) of several; `alone` are those with nothing to be compared with."""

    groups: tuple[RatedCompletions, ...]
    alone: tuple[RatedCompletions, ...] = ()


MEAN = "mean"
"""The dimension that stands for all that say how good a completion is; each shape says which those are."""

Content = Document | Question | Dialogue | PairRow | LabelledCompletion | RatedGroups


class InvalidRow(Exception):  # noqa: N818 - says what the row is
    """A row cannot be used; it is dropped with this reason, whose words before a colon name the kind."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RowFormat(Protocol):
    """One outside dataset shape."""

    @property
    def name(self) -> str:
        """How messages and documents call it."""
        ...

    @property
    def needs(self) -> str:
        """The columns it needs, in words."""
        ...

    @property
    def columns(self) -> Collection[str]:
        """Columns the shape takes for itself; others are further fields of the prompt."""
        ...

    def fits(self, row: Columns) -> bool:
        """Whether the row is written in this shape, judged by its columns; it may still be faulty."""
        ...

    def parse(self, row: Columns) -> Content:
        """What the row says. Raises Unfit with the reason when it cannot be used."""
        ...

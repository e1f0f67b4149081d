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
class Pair:
    """A prompt with a better and a worse completion."""

    prompt: Conversation
    chosen: str
    rejected: str


Content = Document | Question | Dialogue | Pair


class Unfit(Exception):  # noqa: N818 - says what the row is
    """A row cannot be used; it is dropped with this reason, whose words before a colon name the kind."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Shape(Protocol):
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

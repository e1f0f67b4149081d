"""What the readers of published evals return: questions, and how a question is put to a model that chats and to one that does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from palate.core import Conversation, DataError, Message
from palate.data.containers import SourceRow

BENCHMARK = "benchmark"
"""The field that says which published eval a question is from."""

CLUSTER = "cluster"
"""The field that is equal in questions that belong together, such as those of one template."""

GROUP = "by"
"""The field by which the figures of a published eval are given once more: a category, a type."""


@dataclass(frozen=True, slots=True)
class EvalQuestion:
    """A question of an eval.

    Attributes:
        question: what is asked; "" where the options are whole texts.
        fields: the columns of the eval row: `eval`, `kind`, and what its kind needs.
        context: what is told before the question.
    """

    question: str
    fields: Mapping[str, object]
    context: str = ""

    def conversation(self, *, chat: bool) -> Conversation:
        """Return the question as a user's turn, or as plain text that waits for an answer."""
        if not self.question:
            return (Message("text", ""),)
        told = f"{self.context}\n" if self.context else ""
        return (Message("user", f"{told}{self.question}"),) if chat else (Message("text", f"{told}Question: {self.question}\nAnswer:"),)

    def columns(self, *, chat: bool) -> dict[str, object]:
        """Return the fields. In plain text the options of a question start with the space that follows `Answer:`."""
        if chat or not self.question or self.fields.get("kind") != "choice":
            return dict(self.fields)
        return {**self.fields, **{name: _spaced(self.fields[name]) for name in ("options", "answer")}}


def _spaced(texts: object) -> list[str]:
    assert isinstance(texts, list)
    return [f" {text}" for text in texts]


@dataclass(frozen=True, slots=True)
class PublishedEval:
    """A published eval and how its rows are read.

    Attributes:
        name: the value of `benchmark` in its questions.
        title: what people call it.
        columns: the columns by which its rows are recognised.
        read: returns the questions of a row.
    """

    name: str
    title: str
    columns: frozenset[str]
    read: Callable[[SourceRow], Iterator[EvalQuestion]]


def text_in(entry: SourceRow, column: str) -> str:
    """Return the text in a column, without white space around it. Raises DataError where it is missing or empty."""
    value = entry.row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise DataError(
            f"{entry.source}: the column `{column}` needs a text that is not empty, got {value!r}. Take the file as it is published"
        )
    return value.strip()


def word_in(entry: SourceRow, column: str, words: tuple[str, ...]) -> str:
    """Return the word in a column. Raises DataError where it is not one of `words`."""
    value = text_in(entry, column)
    if value not in words:
        raise DataError(
            f"{entry.source}: the column `{column}` has {value!r}; known are {', '.join(words)}. Take the file as it is published"
        )
    return value

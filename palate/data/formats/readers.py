"""The readers: any file, any shape, rows with reasons for those that were left out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from palate.core import Completion, Conversation, Demonstration, Message, Preference, Prompt, Role, UnpairedPreference
from palate.data.cells import number
from palate.data.containers import Found
from palate.data.formats.dropped import Dropped, Table, table_of
from palate.data.formats.preferences import margin_of
from palate.data.formats.ratings import RatingGroups
from palate.data.formats.row_types import (
    MEAN,
    Columns,
    Content,
    Dialogue,
    Document,
    InvalidRow,
    LabelledCompletion,
    PairRow,
    Question,
    RatedGroups,
    RowFormat,
)
from palate.data.formats.stream import SHAPES, stream
from palate.data.formats.tools import with_tools


def read_texts(path: str | Path, *, limit: int | None = None) -> Table[Demonstration]:
    """Pretraining texts: rows with `text`, each one `text` message that is learned.

    Args:
        path: a file, a directory, or owner/name on the Hugging Face hub.
        limit: most rows to keep, from the beginning.

    Raises:
        DataError: nothing usable is there; the message names file, row and remedy.
    """
    return table_of(stream_texts(path, limit=limit))


def stream_texts(path: str | Path, *, limit: int | None = None) -> Iterator[Demonstration | Dropped]:
    """The rows of `read_texts`, and those dropped, one by one: what was read is not kept in memory. Errors come while it is read."""
    return stream(path, limit, _document, "Texts are rows with `text`.", shapes=SHAPES[::-1])


def read_demonstrations(path: str | Path, *, limit: int | None = None) -> Table[Demonstration]:
    """Conversations to imitate: messages, prompt and completion, texts, the chosen side of preferences, or the best rated completion.

    Args and errors as in `read_texts`.
    """
    return table_of(stream_demonstrations(path, limit=limit))


def stream_demonstrations(path: str | Path, *, limit: int | None = None) -> Iterator[Demonstration | Dropped]:
    """The rows of `read_demonstrations`, and those dropped, one by one, as `stream_texts` does."""
    return stream(path, limit, _demonstration, "Demonstrations need a completion: `messages`, `prompt` and `completion`, `text`, or pairs.")


def read_prompts(path: str | Path, *, limit: int | None = None) -> Table[Prompt]:
    """Prompts: of rows with a prompt alone, and of demonstrations and preferences; other columns become `fields`.

    Ids are unique: the row's `id`, else file:row. The same prompt twice stays twice. Args and errors as in `read_texts`.
    """
    ids = _Ids()

    def make(found: Found, row: Columns, shape: RowFormat) -> Iterator[Prompt]:
        yield _prompt(found, row, shape, _prompt_in(_content(row, shape)), ids)

    return table_of(stream(path, limit, make, "Prompts are rows with `prompt` or `messages`."))


def read_preferences(path: str | Path, *, limit: int | None = None, dimension: str = MEAN) -> Table[Preference]:
    """Pairs of completions with the better one named; `probability`, `margin`, `weight`, `dimension` where the row has them.

    Rated completions are paired with all others of their prompt; the difference of their ratings is the margin.

    Args:
        path: as in `read_texts`.
        limit: as in `read_texts`.
        dimension: which rating decides, where rows hold ratings by dimension.

    Raises:
        DataError: as in `read_texts`.
    """
    ids, ratings = _Ids(), RatingGroups(dimension)

    def make(found: Found, row: Columns, shape: RowFormat) -> Iterator[Preference | Dropped]:
        content = _content(row, shape)
        if isinstance(content, RatedGroups):
            if not content.groups:
                raise InvalidRow("no ranked replies")
            name = "overall" if dimension == MEAN else dimension
            for group in content.groups:
                for rated in ratings.pairs(group, found.source):
                    yield (
                        rated
                        if isinstance(rated, Dropped)
                        else Preference(
                            _prompt(found, row, shape, rated.pair.prompt, ids),
                            Completion(rated.pair.chosen),
                            Completion(rated.pair.rejected),
                            margin=rated.margin,
                            dimension=name,
                        )
                    )
        else:
            yield _preference(found, row, shape, content, ids)

    return table_of(stream(path, limit, make, "Preferences need `chosen` and `rejected`, or ratings.", rest=ratings.alone))


def read_unpaired(path: str | Path, *, limit: int | None = None) -> Table[UnpairedPreference]:
    """Completions judged one by one: rows with a `label` of true or false.

    Args and errors as in `read_texts`.
    """
    ids = _Ids()

    def make(found: Found, row: Columns, shape: RowFormat) -> Iterator[UnpairedPreference]:
        content = _content(row, shape)
        if not isinstance(content, LabelledCompletion):
            raise InvalidRow(f"no `label` of true or false: it is a {shape.name} row")
        prompt = _prompt(found, row, shape, content.prompt, ids)
        weight = number(row, "weight", 1.0, least=0.0)
        said = Completion(content.completion, tool_fields=content.calls)
        yield UnpairedPreference(prompt=prompt, completion=said, desirable=content.desirable, weight=weight, id=prompt.id)

    return table_of(stream(path, limit, make, "Thumbs need `prompt`, `completion` and `label`."))


def format_of_file(path: str | Path) -> RowFormat:
    """The shape of the first row that has one. Raises DataError as the readers do."""
    return next(
        shape
        for shape in stream(path, 1, lambda _found, _row, shape: (shape,), "Give rows in one of the shapes read.")
        if not isinstance(shape, Dropped)
    )


class _Ids:
    """Gives each row an id that no other row of the file has."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def unique(self, wanted: str) -> str:
        """`wanted`, or with #2, #3, ... behind it when it is taken."""
        name, count = wanted, 1
        while name in self._taken:
            count += 1
            name = f"{wanted}#{count}"
        self._taken.add(name)
        return name


def _document(found: Found, row: Columns, shape: RowFormat) -> Iterator[Demonstration]:
    content = shape.parse(row)
    if not isinstance(content, Document):
        raise InvalidRow(f"no `text`: it is a {shape.name} row")
    yield Demonstration((Message("text", content.text),), (0,), found.source)


def _demonstration(found: Found, row: Columns, shape: RowFormat) -> Iterator[Demonstration]:
    match _content(row, shape):
        case Document(text):
            yield Demonstration((Message("text", text),), (0,), found.source)
        case Dialogue(conversation, learned, _):
            if not learned:
                raise InvalidRow("no assistant turn to learn from")
            yield Demonstration(conversation, learned, found.source)
        case PairRow(prompt, chosen, _, (calls, _)):
            yield _answered(prompt, chosen, found, calls)
        case LabelledCompletion(prompt, completion, desirable, calls):
            if not desirable:
                raise InvalidRow("an undesirable completion is not imitated")
            yield _answered(prompt, completion, found, calls)
        case RatedGroups(groups, alone):
            for group in groups + alone:
                best = max(group.answers, key=lambda answer: answer.ratings.get(MEAN, -math.inf))
                yield _answered(group.prompt, best.text, found)
        case Question():
            raise InvalidRow("no completion")


def _content(row: Columns, shape: RowFormat) -> Content:
    return with_tools(shape.parse(row), row)


def _answered(prompt: Conversation, completion: str, found: Found, calls: str = "") -> Demonstration:
    role: Role = "text" if prompt[0].role == "text" else "assistant"
    return Demonstration((*prompt, Message(role, completion, calls)), (len(prompt),), found.source)


def _prompt_in(content: Content) -> Conversation:
    """The prompt of a row; of a tree its first."""
    match content:
        case Document():
            raise InvalidRow("no prompt: it is a text row")
        case Dialogue(conversation, _, turns):
            return conversation[:turns]
        case RatedGroups(groups, alone):
            return min((group.prompt for group in groups + alone), key=len)
        case PairRow(prompt) | Question(prompt) | LabelledCompletion(prompt):
            return prompt


def _prompt(found: Found, row: Columns, shape: RowFormat, conversation: Conversation, ids: _Ids) -> Prompt:
    fields = {name: value for name, value in row.items() if name not in shape.columns and name != "id"}
    return Prompt(ids.unique(_id(found, row)), conversation, fields, found.source)


def _preference(found: Found, row: Columns, shape: RowFormat, content: Content, ids: _Ids) -> Preference:
    if not isinstance(content, PairRow):
        raise InvalidRow(f"no `chosen` and `rejected`: it is a {shape.name} row")
    probability = number(row, "probability", 1.0, least=0.0, most=1.0)
    margin, weight = margin_of(row), number(row, "weight", 1.0, least=0.0)
    dimension, judgments = row.get("dimension", "overall"), row.get("judgments", [])
    if not isinstance(dimension, str) or not dimension:
        raise InvalidRow("`dimension` is not a string")
    if not isinstance(judgments, list) or not all(isinstance(judgment, str) for judgment in judgments):
        raise InvalidRow("`judgments` is not a list of strings")
    return Preference(
        _prompt(found, row, shape, content.prompt, ids),
        Completion(content.chosen, tool_fields=content.calls[0]),
        Completion(content.rejected, tool_fields=content.calls[1]),
        probability=probability,
        margin=margin,
        weight=weight,
        dimension=dimension,
        judgments=tuple(judgments),
    )


def _id(found: Found, row: Columns) -> str:
    value = row.get("id", found.place)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise InvalidRow(f"`id` is not a string or a whole number: {value!r}")
    return str(value)

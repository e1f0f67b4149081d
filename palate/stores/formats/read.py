"""The four readers: any file, any shape, rows with reasons for those that were left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from palate.core import Completion, ConfigError, DataError, Demonstration, Message, Preference, Prompt, Role
from palate.stores.formats.answers import AnswerShape
from palate.stores.formats.cells import number
from palate.stores.formats.chats import ChatShape
from palate.stores.formats.containers import Found, read_container
from palate.stores.formats.content import Columns, Content, Dialogue, Document, Pair, Question, Shape, Unfit
from palate.stores.formats.documents import DocumentShape
from palate.stores.formats.hh import TranscriptShape
from palate.stores.formats.pairs import PairShape
from palate.stores.formats.prompts import PromptShape
from palate.stores.formats.table import Dropped, Table, count_dropped

SHAPES: tuple[Shape, ...] = (TranscriptShape(), PairShape(), AnswerShape(), ChatShape(), PromptShape(), DocumentShape())
"""Every shape that is read. A row is read in the first that fits; a row with chosen, prompt and messages is a pair."""

T = TypeVar("T")


def read_texts(path: str | Path, *, limit: int | None = None) -> Table[Demonstration]:
    """Pretraining texts: rows with `text`, each one `text` message that is learned.

    Args:
        path: a file, a directory, or owner/name on the Hugging Face hub.
        limit: most rows to keep, from the beginning.

    Raises:
        DataError: nothing usable is there; the message names file, row and remedy.
    """
    return _read(path, limit, _document, "Texts are rows with `text`.", shapes=SHAPES[::-1])


def read_demonstrations(path: str | Path, *, limit: int | None = None) -> Table[Demonstration]:
    """Conversations to imitate: messages, prompt and completion, texts, or the chosen side of preferences.

    Args and errors as in `read_texts`.
    """
    return _read(path, limit, _demonstration, "Demonstrations need a completion: `messages`, `prompt` and `completion`, `text`, or pairs.")


def read_prompts(path: str | Path, *, limit: int | None = None) -> Table[Prompt]:
    """Prompts: of rows with a prompt alone, and of demonstrations and preferences; other columns become `fields`.

    Ids are unique: the row's `id`, else file:row. The same prompt twice stays twice. Args and errors as in `read_texts`.
    """
    ids = _Ids()
    return _read(path, limit, lambda found, row, shape: _prompt(found, row, shape, ids), "Prompts are rows with `prompt` or `messages`.")


def read_preferences(path: str | Path, *, limit: int | None = None) -> Table[Preference]:
    """Pairs of completions with the better one named; `probability`, `margin`, `weight`, `dimension` where the row has them.

    Args and errors as in `read_texts`.
    """
    ids = _Ids()
    return _read(path, limit, lambda found, row, shape: _preference(found, row, shape, ids), "Preferences need `chosen` and `rejected`.")


Make = Callable[[Found, Columns, Shape], T]


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


def _read(path: str | Path, limit: int | None, make: Make[T], needs: str, *, shapes: tuple[Shape, ...] = SHAPES) -> Table[T]:
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}; give 1 or more, or leave it out to read every row of {path}.")
    rows: list[T] = []
    dropped: list[Dropped] = []
    first_columns = ""
    for found, row in _rows(path):
        try:
            if found.fault:
                raise Unfit(found.fault)
            shape = next((shape for shape in shapes if shape.fits(row)), None)
            if shape is None and any(shape.fits(found.row) for shape in shapes):
                raise Unfit(f"null in every column that counts: {_names(found.row)}")
            if shape is None and not first_columns:
                raise DataError(_unknown_columns(found))
            first_columns = first_columns or _names(found.row)
            if shape is None:
                raise Unfit(f"no known columns: {_names(found.row)}")
            rows.append(make(found, row, shape))
        except Unfit as unfit:
            dropped.append(Dropped(found.source, unfit.reason))
        if limit is not None and len(rows) >= limit:
            break
    if not rows:
        raise DataError(_nothing_left(path, dropped, first_columns, needs))
    return Table(rows, dropped)


def _rows(path: str | Path) -> Iterator[tuple[Found, Columns]]:
    for found in read_container(path):
        yield found, {name: value for name, value in found.row.items() if value is not None}


def _document(found: Found, row: Columns, shape: Shape) -> Demonstration:
    content = shape.parse(row)
    if not isinstance(content, Document):
        raise Unfit(f"no `text`: it is a {shape.name} row")
    return Demonstration((Message("text", content.text),), (0,), found.source)


def _demonstration(found: Found, row: Columns, shape: Shape) -> Demonstration:
    match shape.parse(row):
        case Document(text):
            return Demonstration((Message("text", text),), (0,), found.source)
        case Dialogue(conversation, learned, _):
            if not learned:
                raise Unfit("no assistant turn to learn from")
            return Demonstration(conversation, learned, found.source)
        case Pair(prompt, chosen, _):
            role: Role = "text" if prompt[0].role == "text" else "assistant"
            return Demonstration((*prompt, Message(role, chosen)), (len(prompt),), found.source)
        case Question():
            raise Unfit("no completion")


def _prompt(found: Found, row: Columns, shape: Shape, ids: _Ids) -> Prompt:
    match shape.parse(row):
        case Document():
            raise Unfit("no prompt: it is a text row")
        case Dialogue(conversation, _, turns):
            prompt = conversation[:turns]
        case Pair(prompt, _, _) | Question(prompt):
            pass
    fields = {name: value for name, value in row.items() if name not in shape.columns and name != "id"}
    return Prompt(ids.unique(_id(found, row)), prompt, fields, found.source)


def _preference(found: Found, row: Columns, shape: Shape, ids: _Ids) -> Preference:
    content: Content = shape.parse(row)
    if not isinstance(content, Pair):
        raise Unfit(f"no `chosen` and `rejected`: it is a {shape.name} row")
    probability = number(row, "probability", 1.0, least=0.0, most=1.0)
    margin, weight = number(row, "margin", 0.0), number(row, "weight", 1.0, least=0.0)
    dimension, judgments = row.get("dimension", "overall"), row.get("judgments", [])
    if not isinstance(dimension, str) or not dimension:
        raise Unfit("`dimension` is not a string")
    if not isinstance(judgments, list) or not all(isinstance(judgment, str) for judgment in judgments):
        raise Unfit("`judgments` is not a list of strings")
    return Preference(
        _prompt(found, row, shape, ids),
        Completion(content.chosen),
        Completion(content.rejected),
        probability=probability,
        margin=margin,
        weight=weight,
        dimension=dimension,
        judgments=tuple(judgments),
    )


def _id(found: Found, row: Columns) -> str:
    value = row.get("id", found.place)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise Unfit(f"`id` is not a string or a whole number: {value!r}")
    return str(value)


def _names(row: Columns) -> str:
    return ", ".join(map(str, row)) or "none"


def _unknown_columns(found: Found) -> str:
    shapes = "; ".join(f"{shape.name}: {shape.needs}" for shape in SHAPES)
    return f"{found.source}: the first row has the columns {_names(found.row)}, which make no known shape. Rename them. Read are {shapes}."


def _nothing_left(path: str | Path, dropped: list[Dropped], first_columns: str, needs: str) -> str:
    if not dropped:
        return f"{path}: holds no row. {needs}"
    reasons = "; ".join(map(str, count_dropped(dropped)))
    columns = f" The first row's columns: {first_columns}." if first_columns else ""
    return f"{path}: none of its {len(dropped)} rows can be used: {reasons}; the first says: {dropped[0].reason}.{columns} {needs}"

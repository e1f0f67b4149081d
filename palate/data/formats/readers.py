"""The readers: rows of any file in any shape, with reasons for the rows that were left out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from palate.core import Completion, Conversation, Demonstration, Message, Preference, Prompt, Role, UnpairedPreference
from palate.data.cells import Columns, InvalidRow, list_or_text, number
from palate.data.containers import SourceRow, read_container
from palate.data.formats.column_types import RECOGNISED, ColumnTypes, Recognised
from palate.data.formats.dropped import Dropped, Further, Table, table_of
from palate.data.formats.labelled_completions import LabelColumn
from palate.data.formats.preferences import margin_of, votes_in
from palate.data.formats.ratings import RatingGroups
from palate.data.formats.row_prompts import RowIds, prompt_of_row
from palate.data.formats.row_types import (
    MEAN,
    Content,
    Dialogue,
    Document,
    LabelledCompletion,
    PairRow,
    Question,
    RatedGroups,
    RowFormat,
    SampledCompletions,
    content_of,
)
from palate.data.formats.sampled import sampled_side
from palate.data.formats.stream import SHAPES, Source, stream


def read_texts(path: str | Path, *, limit: int | None = None, columns: ColumnTypes = RECOGNISED) -> Table[Demonstration]:
    """Read pretraining texts: rows with `text`, each of them one learned message of the role `text`.

    Args:
        path: a file, a directory, or owner/name on the Hugging Face hub.
        limit: the most rows to return, from the beginning.
        columns: what the columns hold.

    Raises:
        DataError: there is no usable row; the message names file, row and remedy.
    """
    further: Further = {}
    return table_of(stream_texts(path, limit=limit, columns=columns, further=further), further)


def stream_texts(
    path: str | Path, *, limit: int | None = None, columns: ColumnTypes = RECOGNISED, further: Further | None = None
) -> Iterator[Demonstration | Dropped]:
    """Yield the usable and the dropped rows of `read_texts` one by one, without keeping them in memory. Errors come during iteration.

    `further` takes the names of columns that were not read.
    """
    source = Source(path, limit, columns, {} if further is None else further)
    return stream(source, _document, "Texts are rows with `text`.", shapes=SHAPES[::-1])


def read_demonstrations(path: str | Path, *, limit: int | None = None, columns: ColumnTypes = RECOGNISED) -> Table[Demonstration]:
    """Read conversations to imitate: messages, prompt and completion, texts, chosen sides of preferences, or best rated completions.

    Args and errors as in `read_texts`.
    """
    further: Further = {}
    return table_of(stream_demonstrations(path, limit=limit, columns=columns, further=further), further)


def stream_demonstrations(
    path: str | Path, *, limit: int | None = None, columns: ColumnTypes = RECOGNISED, further: Further | None = None
) -> Iterator[Demonstration | Dropped]:
    """Yield the usable and the dropped rows of `read_demonstrations` one by one, as `stream_texts` does."""
    source = Source(path, limit, columns, {} if further is None else further)
    labels = _labels(source)

    def make(entry: SourceRow, row: Columns, shape: RowFormat) -> Iterator[Demonstration]:
        labels.check(row)
        return _demonstration(entry, row, shape)

    return stream(source, make, "Demonstrations need a completion: `messages`, `prompt` and `completion`, `text`, or pairs.")


def read_prompts(path: str | Path, *, limit: int | None = None, columns: ColumnTypes = RECOGNISED) -> Table[Prompt]:
    """Read the prompts of prompt-only rows, samples, demonstrations and preferences. Other columns become `fields`.

    The id is the row's `id`, else file:row; a repeated one gets a number. Repeated prompts are kept. Args and errors as in `read_texts`.
    """
    ids, source = RowIds(), Source(path, limit, columns)

    def make(entry: SourceRow, row: Columns, shape: RowFormat) -> Iterator[Prompt]:
        yield prompt_of_row(entry, row, shape, _prompt_in(content_of(shape, row)), ids)

    return table_of(stream(source, make, "Prompts are rows with `prompt` or `messages`."), source.further)


def read_samples(
    path: str | Path, *, limit: int | None = None, columns: ColumnTypes = RECOGNISED
) -> Table[tuple[Prompt, tuple[Completion, ...]]]:
    """Read prompts with their completions: samples, prompt and completion, or messages, whose last answer is the completion.

    Completions of one prompt with the same further columns belong together, wherever their rows are. Args and errors as in `read_texts`.
    """
    ids, source = RowIds(), Source(path, limit, columns)

    def make(entry: SourceRow, row: Columns, shape: RowFormat) -> Iterator[tuple[Prompt, tuple[Completion, ...]]]:
        match content_of(shape, row):
            case SampledCompletions(conversation, completions):
                pass
            case Dialogue(turns, learned, count) if learned and count == len(turns) - 1:
                conversation, answer = turns[:-1], turns[-1]
                completions = (sampled_side(row, "completion", Completion(answer.text, tool_fields=answer.tool_fields)),)
            case LabelledCompletion(conversation, text, _, calls):
                completions = (sampled_side(row, "completion", Completion(text, tool_fields=calls)),)
            case _:
                raise InvalidRow(f"no completions of a prompt: it is a {shape.name} row")
        yield prompt_of_row(entry, row, shape, conversation, ids), completions

    rows = stream(source, make, "Samples are rows with `prompt` and `completions`, or with `prompt` and `completion`.")
    table = table_of(rows, source.further)
    groups: dict[object, tuple[Prompt, tuple[Completion, ...]]] = {}
    for prompt, completions in table.rows:
        first, before = groups.get(prompt.content, (prompt, ()))
        groups[prompt.content] = first, before + completions
    return Table(list(groups.values()), table.dropped, table.further)


def read_preferences(
    path: str | Path, *, limit: int | None = None, dimension: str = MEAN, columns: ColumnTypes = RECOGNISED
) -> Table[Preference]:
    """Read pairs of completions, with `probability`, `margin`, `weight` and `dimension` where the row has them.

    Rated completions are paired with all others of their prompt, and the difference of their ratings is the margin.

    Args:
        path: as in `read_texts`.
        limit: as in `read_texts`.
        dimension: the rating that decides, if rows hold ratings by dimension.
        columns: as in `read_texts`.

    Raises:
        DataError: as in `read_texts`.
    """
    ids, ratings, source = RowIds(), RatingGroups(dimension), Source(path, limit, columns)

    def make(entry: SourceRow, row: Columns, shape: RowFormat) -> Iterator[Preference | Dropped]:
        content = content_of(shape, row)
        if isinstance(content, RatedGroups):
            if not content.groups:
                raise InvalidRow("no ranked replies")
            name = "overall" if dimension == MEAN else dimension
            for group in content.groups:
                for rated in ratings.pairs(group, entry.source):
                    yield (
                        rated
                        if isinstance(rated, Dropped)
                        else Preference(
                            prompt_of_row(entry, row, shape, rated.pair.prompt, ids),
                            Completion(rated.pair.chosen),
                            Completion(rated.pair.rejected),
                            margin=rated.margin,
                            dimension=name,
                        )
                    )
        else:
            yield _preference(entry, row, shape, content, ids)

    rows = stream(source, make, "Preferences need `chosen` and `rejected`, or ratings.", at_end=ratings.alone)
    return table_of(rows, source.further)


def read_unpaired(path: str | Path, *, limit: int | None = None, columns: ColumnTypes = RECOGNISED) -> Table[UnpairedPreference]:
    """Read completions judged one by one: rows with a `label` of true or false.

    Args and errors as in `read_texts`.
    """
    ids, source = RowIds(), Source(path, limit, columns)
    labels = _labels(source)

    def make(entry: SourceRow, row: Columns, shape: RowFormat) -> Iterator[UnpairedPreference]:
        labels.check(row)
        content = content_of(shape, row)
        if not isinstance(content, LabelledCompletion):
            raise InvalidRow(f"no `label` of true or false: it is a {shape.name} row")
        prompt = prompt_of_row(entry, row, shape, content.prompt, ids)
        weight = number(row.get("weight", 1.0), "weight", least=0.0)
        completion = sampled_side(row, "completion", Completion(content.completion, tool_fields=content.calls))
        yield UnpairedPreference(prompt=prompt, completion=completion, desirable=content.desirable, weight=weight, id=prompt.id)

    return table_of(stream(source, make, "Unpaired preferences need `prompt`, `completion` and `label`."), source.further)


def format_of_file(path: str | Path, columns: ColumnTypes = RECOGNISED) -> RowFormat:
    """The shape of the first row that has a known shape. Raises DataError as the readers do."""
    rows = stream(Source(path, 1, columns), lambda _entry, _row, shape: (shape,), "Give rows in one of the shapes of docs/data.md.")
    return next(shape for shape in rows if not isinstance(shape, Dropped))


def _labels(source: Source) -> LabelColumn:
    """The column of labels of a file, which is read once more where a label could also be a class."""
    name = source.columns.label if isinstance(source.columns, Recognised) else "label"
    return LabelColumn(lambda: (entry.row.get(name) for entry in read_container(source.path)))


def _document(entry: SourceRow, row: Columns, shape: RowFormat) -> Iterator[Demonstration]:
    content = shape.parse(row)
    if not isinstance(content, Document):
        raise InvalidRow(f"no `text`: it is a {shape.name} row")
    yield Demonstration((Message("text", content.text),), (0,), entry.source)


def _demonstration(entry: SourceRow, row: Columns, shape: RowFormat) -> Iterator[Demonstration]:
    match content_of(shape, row):
        case Document(text):
            yield Demonstration((Message("text", text),), (0,), entry.source)
        case Dialogue(conversation, learned, _):
            if not learned:
                raise InvalidRow("no assistant turn to learn from")
            if learned != (len(conversation) - 1,):
                yield Demonstration(conversation, learned, entry.source)
            else:
                answer = conversation[-1]
                yield _answered(
                    conversation[:-1], sampled_side(row, "completion", Completion(answer.text, tool_fields=answer.tool_fields)), entry
                )
        case PairRow(prompt, chosen, _, (calls, _)):
            yield _answered(prompt, sampled_side(row, "chosen", Completion(chosen, tool_fields=calls)), entry)
        case LabelledCompletion(prompt, completion, desirable, calls):
            if not desirable:
                raise InvalidRow("an undesirable completion is not imitated")
            yield _answered(prompt, sampled_side(row, "completion", Completion(completion, tool_fields=calls)), entry)
        case RatedGroups(groups, alone):
            for group in groups + alone:
                best = max(group.answers, key=lambda answer: answer.ratings.get(MEAN, -math.inf))
                yield _answered(group.prompt, Completion(best.text), entry)
        case Question():
            raise InvalidRow("no completion")
        case SampledCompletions():
            raise InvalidRow("samples that nobody judged are not imitated: `rerank` keeps the best, and `pair` and `collect` compare them")


def _answered(prompt: Conversation, completion: Completion, entry: SourceRow) -> Demonstration:
    role: Role = "text" if prompt[0].role == "text" else "assistant"
    turn = Message(role, completion.text, completion.tool_fields)
    is_sampled = bool(completion.ids) or completion.stop != "unknown"
    return Demonstration((*prompt, turn), (len(prompt),), entry.source, completion if is_sampled else None)


def _prompt_in(content: Content) -> Conversation:
    """The prompt of a row, or the first prompt of a tree."""
    match content:
        case Document():
            raise InvalidRow("no prompt: it is a text row")
        case Dialogue(conversation, _, turns):
            return conversation[:turns]
        case RatedGroups(groups, alone):
            return min((group.prompt for group in groups + alone), key=len)
        case PairRow(prompt) | Question(prompt) | LabelledCompletion(prompt) | SampledCompletions(prompt):
            return prompt


def _preference(entry: SourceRow, row: Columns, shape: RowFormat, content: Content, ids: RowIds) -> Preference:
    if not isinstance(content, PairRow):
        raise InvalidRow(f"no `chosen` and `rejected`: it is a {shape.name} row")
    probability = number(row.get("probability", 1.0), "probability", least=0.0, most=1.0)
    margin, weight = margin_of(row), number(row.get("weight", 1.0), "weight", least=0.0)
    dimension, judgments = row.get("dimension", "overall"), row.get("judgments", [])
    judgments = list_or_text(judgments, "judgments")
    if not isinstance(dimension, str) or not dimension:
        raise InvalidRow("`dimension` is not a string")
    if not isinstance(judgments, list) or not all(isinstance(judgment, str) for judgment in judgments):
        raise InvalidRow("`judgments` is not a list of strings")
    return Preference(
        prompt_of_row(entry, row, shape, content.prompt, ids),
        sampled_side(row, "chosen", Completion(content.chosen, tool_fields=content.calls[0])),
        sampled_side(row, "rejected", Completion(content.rejected, tool_fields=content.calls[1])),
        probability=probability,
        margin=margin,
        weight=weight,
        dimension=dimension,
        judgments=tuple(map(str, judgments)),
        votes=votes_in(row, probability),
    )

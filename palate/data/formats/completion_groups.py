"""Whatever there is to score in a row: a prompt with its completions, in any shape that has some, and benchmark rows with their subset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from palate.config.settings import nearest
from palate.core import Completion, Conversation, DataError, Prompt
from palate.data.cells import Columns, InvalidRow, name
from palate.data.containers import SourceRow
from palate.data.formats.best_of import asked
from palate.data.formats.column_types import RECOGNISED, ColumnTypes
from palate.data.formats.dropped import Dropped, Table, table_of
from palate.data.formats.row_prompts import RowIds, prompt_of_row
from palate.data.formats.row_types import (
    MEAN,
    Dialogue,
    LabelledCompletion,
    PairRow,
    RatedGroups,
    RowFormat,
    SampledCompletions,
    content_of,
)
from palate.data.formats.sampled import sampled_side
from palate.data.formats.stream import Source, stream

BenchmarkKind = Literal["rewardbench", "rewardbench-2"]


@dataclass(frozen=True, slots=True)
class CompletionGroup:
    """A prompt and its completions. `sides` says for a pair which is `chosen` and which `rejected`; it is () elsewhere."""

    prompt: Prompt
    completions: tuple[Completion, ...]
    sides: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BenchmarkRow:
    """A prompt of a benchmark, its right completions, its wrong ones, and the subset that it belongs to."""

    prompt: Prompt
    chosen: tuple[Completion, ...]
    rejected: tuple[Completion, ...]
    subset: str


def read_completion_groups(path: str | Path, *, limit: int | None = None, columns: ColumnTypes = RECOGNISED) -> Table[CompletionGroup]:
    """Read the completions of every row: pairs, ratings, samples, prompt and completion, or conversations that end with an answer.

    Each row gives a group of its own (a tree of messages several), in the order of the file. Args and errors as in `read_texts`.
    """
    ids, source = RowIds(), Source(path, limit, columns)

    def make(entry: SourceRow, row: Columns, shape: RowFormat) -> Iterator[CompletionGroup]:
        for conversation, completions, sides in _groups(row, shape):
            yield CompletionGroup(prompt_of_row(entry, row, shape, conversation, ids), completions, sides)

    needs = "Scoring needs completions: `messages`, `prompt` with `completion`, `completions`, or `chosen` and `rejected`."
    return table_of(stream(source, make, needs), source.further)


Group = tuple[Conversation, tuple[Completion, ...], tuple[str, ...]]


def _groups(row: Columns, shape: RowFormat) -> Iterator[Group]:
    match content_of(shape, row):
        case PairRow(prompt, chosen, rejected, calls):
            sides = (("chosen", chosen, calls[0]), ("rejected", rejected, calls[1]))
            completions = (sampled_side(row, side, Completion(text, tool_fields=own)) for side, text, own in sides)  # type: ignore[arg-type]
            yield prompt, tuple(completions), ("chosen", "rejected")
        case SampledCompletions(prompt, sampled):
            yield prompt, sampled, ()
        case Dialogue(turns, _, count) if count == len(turns) - 1:
            answer = turns[-1]
            yield turns[:-1], (sampled_side(row, "completion", Completion(answer.text, tool_fields=answer.tool_fields)),), ()
        case LabelledCompletion(prompt, text, _, own):
            yield prompt, (sampled_side(row, "completion", Completion(text, tool_fields=own)),), ()
        case RatedGroups(groups, alone):
            for group in groups + alone:
                is_benchmark = shape.name == "best of K"
                names = tuple("chosen" if one.ratings[MEAN] else "rejected" for one in group.answers) if is_benchmark else ()
                yield group.prompt, tuple(Completion(one.text) for one in group.answers), names
        case _:
            raise InvalidRow(f"no completion to score: it is a {shape.name} row")


def read_benchmark(path: str | Path, kind: BenchmarkKind, *, limit: int | None = None) -> list[BenchmarkRow]:
    """Read a file in the form of RewardBench (pairs with a `subset`) or RewardBench 2 (lists of right and wrong completions).

    Every row counts in a benchmark's figures, so a row that cannot be used is an error. A string as `prompt` is the user's turn.

    Raises:
        DataError: a column is missing, or a row cannot be used; the message names the row, and the column that may be meant.
    """
    ids = RowIds()
    needed = ("prompt", "chosen", "rejected", "subset", *(("id",) if kind == "rewardbench-2" else ()))

    def make(entry: SourceRow, row: Columns, shape: RowFormat) -> Iterator[BenchmarkRow | Dropped]:
        _check_columns(entry, kind, needed)
        found = list(_groups(row, shape))
        _, completions, sides = found[0]
        if len(found) > 1 or set(sides) != {"chosen", "rejected"} or (shape.name == "best of K") != (kind == "rewardbench-2"):
            raise InvalidRow(f"not a row of {kind}: it is a {shape.name} row")
        prompt = prompt_of_row(entry, row, shape, asked(found[0][0]), ids)
        chosen, rejected = (tuple(c for c, of in zip(completions, sides, strict=True) if of == side) for side in ("chosen", "rejected"))
        yield BenchmarkRow(prompt, chosen, rejected, name(row["subset"], "subset"))

    table = table_of(stream(Source(path, limit), make, f"Rows of {kind} have {', '.join(needed)}."), {})
    if table.dropped:
        first = table.dropped[0]
        raise DataError(
            f"{first.source}: {first.reason}. A benchmark's figures count every row; correct the {len(table.dropped)} such rows of {path}."
        )
    return table.rows


def _check_columns(entry: SourceRow, kind: BenchmarkKind, needed: tuple[str, ...]) -> None:
    missing = [column for column in needed if entry.row.get(column) is None]
    if missing:
        others = [column for column in entry.row if column not in needed]
        raise DataError(
            f"{entry.source}: a row of {kind} needs {', '.join(needed)}, and has no {missing[0]!r}. "
            f"{nearest(missing[0], others) if others else ''} Rename the column."
        )

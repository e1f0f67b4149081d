"""`palate inspect`: a file as a model sees it, with the purpose of each token, and statistics."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import get_args

from transformers import PreTrainedTokenizerBase

from palate.config.artifacts import model_at
from palate.config.read import read_config
from palate.config.settings import Settings
from palate.core import Conversation, DataError, Demonstration, Preference, Prompt, UnpairedPreference
from palate.data.formats import (
    MEAN,
    RECOGNISED,
    ColumnTypes,
    Dropped,
    Further,
    Proposal,
    RowKind,
    Table,
    UnknownShapeError,
    format_of_file,
    propose,
    read_preferences,
    read_prompts,
    read_unpaired,
    stream_demonstrations,
    stream_texts,
)
from palate.models.adapters import is_adapter
from palate.models.load import load_config, load_tokenizer
from palate.models.paths import longest_sequence
from palate.text.inspect import InspectedRow, Repeats, RowTally, Statistics
from palate.text.remarks import answer_remarks, demonstration_remarks
from palate.text.spans import NO_LIMIT, Answer, answer_of, demonstration_tree, preference_tree, prompt_ids
from palate.text.template import Unusable

Kind = RowKind
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Viewer:
    """How to read and tokenise rows.

    Attributes:
        model: a model directory, a run, a directory with a tokenizer alone, or a name on the hub.
        kind: what to read the rows as; None takes the usual purpose of their shape.
        max_tokens: most tokens of prompt and completion together; None takes the model's limit.
        dimension: the rating that decides, where rows hold ratings.
        limit: most rows to read; None reads all.
        columns: what the columns hold.
    """

    model: str
    kind: Kind | None = None
    max_tokens: int | None = None
    dimension: str = MEAN
    limit: int | None = None
    columns: ColumnTypes = RECOGNISED

    def kind_of(self, path: Path) -> Kind:
        """Return what to read the rows of a file as."""
        return self.kind or format_of_file(path, self.columns).kind

    def tokens(self) -> tuple[PreTrainedTokenizerBase, int]:
        """Return the tokenizer, and the most tokens of a sequence."""
        place = model_at(self.model)
        is_tokenizer_alone = Path(place).is_dir() and not (Path(place) / "config.json").is_file() and not is_adapter(place)
        longest = None if is_tokenizer_alone else longest_sequence(load_config(place))
        return load_tokenizer(place), self.max_tokens or longest or NO_LIMIT

    def examples(
        self, path: Path, kind: Kind, tokenizer: PreTrainedTokenizerBase, limit: int, further: Further
    ) -> Iterator[InspectedRow | Dropped]:
        """Yield the rows of a file as text and tokens, and rows that cannot be used. Raises DataError as the readers do.

        `further` takes the names of columns that no text was made of.
        """
        rows: Iterable[Demonstration | Preference | UnpairedPreference | Prompt | Dropped]
        match kind:
            case "demonstrations":
                rows = stream_demonstrations(path, limit=self.limit, columns=self.columns, further=further)
            case "texts":
                rows = stream_texts(path, limit=self.limit, columns=self.columns, further=further)
                limit = NO_LIMIT  # windows cut longer rows, so none is dropped
            case "preferences":
                rows = _stream(read_preferences(path, limit=self.limit, dimension=self.dimension, columns=self.columns), further)
            case "unpaired":
                rows = _stream(read_unpaired(path, limit=self.limit, columns=self.columns), further)
            case "prompts":
                rows = _stream(read_prompts(path, limit=self.limit, columns=self.columns), further)
        for row in rows:
            if isinstance(row, Dropped):
                yield row
                continue
            try:
                yield _example(row, tokenizer, limit)
            except Unusable as unusable:
                yield Dropped(_source(row), unusable.reason)


@dataclass(frozen=True)
class _ColumnSettings:
    """The setting `columns` alone."""

    columns: ColumnTypes = RECOGNISED


def columns_of(words: Sequence[str]) -> ColumnTypes:
    """Return what the words of `--columns` say: a type, and columns as NAME=COLUMN.

    Raises:
        ConfigError: there is no such type or name.
    """
    settings = Settings(places={(): "--columns"})
    for word in words:
        name, equals, column = word.partition("=")
        settings = settings.put(("columns", name) if equals else ("columns", "kind"), column if equals else name, f"--columns {word}")
    return read_config(_ColumnSettings, settings).columns


@dataclass(frozen=True)
class Overlap:
    """What two files share. Two splits must not share a prompt."""

    path: str
    prompts: Repeats
    rows: Repeats


@dataclass(frozen=True)
class Inspection:
    """What a file holds.

    Attributes:
        path: the file.
        kind: what its rows were read as.
        max_tokens: the limit of a sequence; None without a limit.
        examples: its first usable rows.
        dropped: the first row of each kind that cannot be used.
        statistics: of all rows.
        overlap: what it shares with another split, where the user named one.
        further: columns that no text was made of.
        proposal: what the columns were taken for, where they make no known shape; None where they do.
    """

    path: str
    kind: Kind
    max_tokens: int | None
    examples: tuple[InspectedRow, ...]
    dropped: tuple[Dropped, ...]
    statistics: Statistics
    overlap: Overlap | None
    further: tuple[str, ...]
    proposal: Proposal | None = None

    def to_json(self) -> str:
        """Return everything except the examples, as JSON."""
        values = {"file": self.path, "kind": self.kind, "max_tokens": self.max_tokens, **asdict(self.statistics)}
        values |= {"proposed": None if self.proposal is None else self.proposal.line}
        values |= {"further_columns": self.further, "first_dropped": [asdict(row) for row in self.dropped]}
        return json.dumps({**values, "overlap": None if self.overlap is None else asdict(self.overlap)}, indent=2, ensure_ascii=False)


def inspect(path: Path, viewer: Viewer, rows: int, also: Path | None) -> tuple[Inspection, PreTrainedTokenizerBase]:
    """Return what the file holds, with its first `rows` usable rows, and the tokenizer that was used.

    Raises:
        DataError: a file cannot be read, or has no usable rows.
        ModelError: there is no tokenizer.
    """
    tokenizer, limit = viewer.tokens()
    viewer, proposal = _with_proposal(viewer, path)
    kind = viewer.kind_of(path)
    further: Further = {}
    tally, examples, dropped = _surveyed(viewer, path, kind, tokenizer, limit, rows, further)
    if not tally.rows:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in tally.dropped.most_common())
        raise DataError(
            f"{path}: no row can be used: {reasons}; the first, {dropped[0].source}, says: {dropped[0].reason}. See docs/data.md"
        )
    overlap = None
    if also is not None:
        other, _, _ = _surveyed(viewer, also, kind, tokenizer, limit, 0, {})
        overlap = Overlap(str(also), tally.shared_prompts(other), tally.shared_rows(other))
    max_tokens = None if limit == NO_LIMIT else limit
    first, left_out = tuple(examples), tuple(dropped)
    return Inspection(str(path), kind, max_tokens, first, left_out, tally.statistics(), overlap, tuple(further), proposal), tokenizer


def _with_proposal(viewer: Viewer, path: Path) -> tuple[Viewer, Proposal | None]:
    """The viewer, which reads the columns as proposed where they make no known shape and nobody says what they hold; and the proposal.

    Raises:
        UnknownShapeError: nothing can be proposed.
    """
    if viewer.columns != RECOGNISED:
        return viewer, None
    try:
        format_of_file(path)
    except UnknownShapeError as unknown:
        proposal = propose(unknown.row)
        if proposal.missing:
            raise
        return replace(viewer, columns=columns_of(proposal.words)), proposal
    return viewer, None


def _surveyed(
    viewer: Viewer, path: Path, kind: Kind, tokenizer: PreTrainedTokenizerBase, limit: int, rows: int, further: Further
) -> tuple[RowTally, list[InspectedRow], list[Dropped]]:
    tally = RowTally()
    examples: list[InspectedRow] = []
    dropped: list[Dropped] = []
    kinds: set[str] = set()
    for row in viewer.examples(path, kind, tokenizer, limit, further):
        if isinstance(row, Dropped):
            tally.drop(row.kind)
            if row.kind not in kinds:  # the first of each kind
                kinds.add(row.kind)
                dropped.append(row)
        else:
            tally.add(row)
            if len(examples) < rows:
                examples.append(row)
    return tally, examples, dropped


def _stream(
    table: Table[Preference] | Table[UnpairedPreference] | Table[Prompt], further: Further
) -> Iterator[Preference | UnpairedPreference | Prompt | Dropped]:
    further |= table.further
    yield from table.rows
    yield from table.dropped


def _source(row: Demonstration | Preference | UnpairedPreference | Prompt) -> str:
    return row.source if isinstance(row, Demonstration | Prompt) else row.prompt.source


def _example(row: Demonstration | Preference | UnpairedPreference | Prompt, tokenizer: PreTrainedTokenizerBase, limit: int) -> InspectedRow:
    match row:
        case Prompt():
            return InspectedRow(row.source, row.conversation, (), prompt_ids(tokenizer, row), ())
        case Demonstration():
            tree = demonstration_tree(tokenizer, row, limit)
            first = min(row.learned)
            rest: Conversation = row.conversation[first:]
            completion = tuple(turn.text + turn.tool_fields for turn in rest)
            remarks = demonstration_remarks(tokenizer, row, len(tree.branches))
            return InspectedRow(row.source, row.conversation[:first], completion, tree.trunk, tree.branches, remarks=remarks)
        case UnpairedPreference():
            answers: tuple[Answer, ...] = (answer_of(row.completion),)
            texts: tuple[str, ...] = (row.completion.text + row.completion.tool_fields,)
            return replace(_judged(row.prompt, answers, texts, tokenizer, limit), desirable=row.desirable)
        case Preference():
            texts = row.chosen.text + row.chosen.tool_fields, row.rejected.text + row.rejected.tool_fields
            answers = answer_of(row.chosen), answer_of(row.rejected)
            return replace(_judged(row.prompt, answers, texts, tokenizer, limit), probability=row.probability)


def _judged(
    prompt: Prompt, answers: Sequence[Answer], texts: tuple[str, ...], tokenizer: PreTrainedTokenizerBase, limit: int
) -> InspectedRow:
    tree = preference_tree(tokenizer, prompt.conversation, answers, limit)
    remarks = answer_remarks(tokenizer, prompt.conversation, answers)
    return InspectedRow(prompt.source, prompt.conversation, texts, tree.trunk, tree.branches, remarks=remarks)

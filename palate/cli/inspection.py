"""`palate inspect`: a file as a model would see it: rows with their tokens by what they are for, and statistics."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from transformers import PreTrainedTokenizerBase

from palate.config.artifacts import model_at
from palate.core import Conversation, DataError, Demonstration, Preference, Prompt, UnpairedPreference
from palate.data.formats import (
    MEAN,
    Dropped,
    Table,
    format_of_file,
    read_preferences,
    read_prompts,
    read_unpaired,
    stream_demonstrations,
    stream_texts,
)
from palate.models.load import load_config, load_tokenizer
from palate.models.paths import longest_sequence
from palate.text.inspect import InspectedRow, Repeats, RowTally, Statistics
from palate.text.spans import NO_LIMIT, answer_of, demonstration_tree, preference_tree, prompt_ids
from palate.text.template import Unusable

Kind = Literal["demonstrations", "preferences", "thumbs", "prompts", "texts"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_KIND_OF: dict[str, Kind] = {
    "transcripts": "preferences",
    "preference": "preferences",
    "rating": "preferences",
    "feedback": "preferences",
    "message-tree": "preferences",
    "thumb": "thumbs",
    "prompt-completion": "demonstrations",
    "messages": "demonstrations",
    "prompt-only": "prompts",
    "text": "texts",
}
"""What the rows of a shape are mostly for."""


@dataclass(frozen=True)
class Viewer:
    """How rows are read and tokenised.

    Attributes:
        model: a model directory, a run, a directory with a tokenizer alone, or a name on the hub.
        kind: as what the rows are read; none takes what their shape is mostly for.
        max_tokens: longest prompt and completion together; none takes the model's limit.
        dimension: which rating decides, where rows hold ratings.
        limit: rows read at most; none reads all.
    """

    model: str
    kind: Kind | None = None
    max_tokens: int | None = None
    dimension: str = MEAN
    limit: int | None = None

    def kind_of(self, path: Path) -> Kind:
        """As what the rows of a file are read."""
        return self.kind or _KIND_OF[format_of_file(path).name]

    def tokens(self) -> tuple[PreTrainedTokenizerBase, int]:
        """The tokenizer, and the most tokens of a sequence."""
        place = model_at(self.model)
        is_tokenizer_alone = Path(place).is_dir() and not (Path(place) / "config.json").is_file()
        longest = None if is_tokenizer_alone else longest_sequence(load_config(place))
        return load_tokenizer(place), self.max_tokens or longest or NO_LIMIT

    def examples(self, path: Path, kind: Kind, tokenizer: PreTrainedTokenizerBase, limit: int) -> Iterator[InspectedRow | Dropped]:
        """The rows of a file as text and tokens, and those that cannot be used. Raises DataError as the readers do."""
        rows: Iterable[Demonstration | Preference | UnpairedPreference | Prompt | Dropped]
        match kind:
            case "demonstrations":
                rows = stream_demonstrations(path, limit=self.limit)
            case "texts":
                rows, limit = stream_texts(path, limit=self.limit), NO_LIMIT  # longer ones are cut into windows, none is dropped
            case "preferences":
                rows = _stream(read_preferences(path, limit=self.limit, dimension=self.dimension))
            case "thumbs":
                rows = _stream(read_unpaired(path, limit=self.limit))
            case "prompts":
                rows = _stream(read_prompts(path, limit=self.limit))
        for row in rows:
            if isinstance(row, Dropped):
                yield row
                continue
            try:
                yield _example(row, tokenizer, limit)
            except Unusable as unusable:
                yield Dropped(_source(row), unusable.reason)


@dataclass(frozen=True)
class Overlap:
    """What two files share; splits must share no prompt."""

    path: str
    prompts: Repeats
    rows: Repeats


@dataclass(frozen=True)
class Inspection:
    """What was found in a file.

    Attributes:
        path: the file.
        kind: as what its rows were read.
        max_tokens: the limit of a sequence; None without one.
        shown: its first usable rows.
        dropped: its first rows that cannot be used.
        statistics: of all rows.
        overlap: with another split, where one was named.
    """

    path: str
    kind: Kind
    max_tokens: int | None
    shown: tuple[InspectedRow, ...]
    dropped: tuple[Dropped, ...]
    statistics: Statistics
    overlap: Overlap | None

    def to_json(self) -> str:
        """Everything but the rows shown, as JSON."""
        found = {"file": self.path, "kind": self.kind, "max_tokens": self.max_tokens, **asdict(self.statistics)}
        found["first_dropped"] = [asdict(row) for row in self.dropped]
        return json.dumps({**found, "overlap": None if self.overlap is None else asdict(self.overlap)}, indent=2, ensure_ascii=False)


def inspect(path: Path, viewer: Viewer, rows: int, also: Path | None) -> tuple[Inspection, PreTrainedTokenizerBase]:
    """What is in the file, its first `rows` usable rows with it; and the tokenizer it was seen through.

    Raises:
        DataError: a file cannot be read, or none of its rows can be used.
        ModelError: there is no tokenizer.
    """
    tokenizer, limit = viewer.tokens()
    kind = viewer.kind_of(path)
    survey, shown, dropped = _surveyed(viewer, path, kind, tokenizer, limit, rows)
    if not survey.rows:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in survey.dropped.most_common())
        raise DataError(
            f"{path}: no row can be used: {reasons}; the first, {dropped[0].source}, says: {dropped[0].reason}. See docs/data.md"
        )
    overlap = None
    if also is not None:
        other, _, _ = _surveyed(viewer, also, kind, tokenizer, limit, 0)
        overlap = Overlap(str(also), survey.shared_prompts(other), survey.shared_rows(other))
    told = None if limit == NO_LIMIT else limit
    return Inspection(str(path), kind, told, tuple(shown), tuple(dropped), survey.statistics(), overlap), tokenizer


def _surveyed(
    viewer: Viewer, path: Path, kind: Kind, tokenizer: PreTrainedTokenizerBase, limit: int, rows: int
) -> tuple[RowTally, list[InspectedRow], list[Dropped]]:
    survey = RowTally()
    shown: list[InspectedRow] = []
    dropped: list[Dropped] = []
    kinds: set[str] = set()
    for row in viewer.examples(path, kind, tokenizer, limit):
        if isinstance(row, Dropped):
            survey.drop(row.kind)
            if row.kind not in kinds:  # the first of each kind
                kinds.add(row.kind)
                dropped.append(row)
        else:
            survey.add(row)
            if len(shown) < rows:
                shown.append(row)
    return survey, shown, dropped


def _stream(
    table: Table[Preference] | Table[UnpairedPreference] | Table[Prompt],
) -> Iterator[Preference | UnpairedPreference | Prompt | Dropped]:
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
            said = tuple(turn.text + turn.tool_fields for turn in rest)
            return InspectedRow(row.source, row.conversation[:first], said, tree.trunk, tree.branches)
        case UnpairedPreference():
            tree = preference_tree(tokenizer, row.prompt.conversation, (answer_of(row.completion),), limit)
            texts: tuple[str, ...] = (row.completion.text + row.completion.tool_fields,)
            return InspectedRow(row.prompt.source, row.prompt.conversation, texts, tree.trunk, tree.branches, desirable=row.desirable)
        case Preference():
            texts = row.chosen.text + row.chosen.tool_fields, row.rejected.text + row.rejected.tool_fields
            tree = preference_tree(tokenizer, row.prompt.conversation, (answer_of(row.chosen), answer_of(row.rejected)), limit)
            return InspectedRow(row.prompt.source, row.prompt.conversation, texts, tree.trunk, tree.branches, probability=row.probability)

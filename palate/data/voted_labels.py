"""Read the preferences of a run of `collect` again, without what training needs of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from palate.core import DataError, Prompt
from palate.data.cells import InvalidRow
from palate.data.containers import SourceRow
from palate.data.formats.fields import FIELDS
from palate.data.formats.prompt_only import PromptOnlyFormat
from palate.data.formats.row_prompts import RowIds, prompt_of_row
from palate.data.formats.row_types import Question, content_of
from palate.data.jsonl import Row, read_rows


@dataclass(frozen=True, slots=True)
class VotedLabel:
    """A label of a pair of completions.

    Attributes:
        prompt: the prompt, one object for all labels of it. Its id is that of its first row.
        chosen: text of the side that more votes prefer.
        rejected: text of the other side.
        probability: how likely raters prefer the chosen side.
        dimension: what was judged.
    """

    prompt: Prompt
    chosen: str
    rejected: str
    probability: float
    dimension: str


def read_voted_labels(path: Path) -> Iterator[VotedLabel]:
    """Yield the labels of a file that `voted_preference_row` made the rows of.

    Reports read many thousands of labels and need no token of them. `read_preferences` would check every row as if a stranger had
    written it, which takes several times as long.

    Raises:
        DataError: the file cannot be read, or a row is not such a label.
    """
    prompts: dict[str, Prompt] = {}
    for number, row in read_rows(path):
        try:
            asked = {name: row[name] for name in ("prompt", "tools", FIELDS) if name in row}
            key = json.dumps(asked)
            if key not in prompts:
                prompts[key] = _prompt(SourceRow(f"{path}:{number}", f"{path.name}:{number}", asked), row)
            sides = _text(row["chosen"]), _text(row["rejected"])
            yield VotedLabel(prompts[key], *sides, float(str(row["probability"])), str(row["dimension"]))
        except (InvalidRow, LookupError, TypeError, ValueError) as error:
            raise DataError(f"{path}:{number}: not a label of a run of collect ({error!r}). Run collect again.") from error


def _prompt(entry: SourceRow, row: Row) -> Prompt:
    shape = PromptOnlyFormat()
    content = cast("Question", content_of(shape, entry.row))
    return prompt_of_row(entry, {**entry.row, "id": row["id"]}, shape, content.prompt, RowIds())


def _text(side: Any) -> str:
    """Return the text of a side, which is a string or the one turn of an assistant."""
    return str(side if isinstance(side, str) else side[-1]["content"])

"""What evaluate runs wrote, read again. Rows of two models belong together by what was asked, never by their place in the files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.core import DataError
from palate.data.jsonl import read_rows

Row = Mapping[str, Any]


@dataclass(frozen=True)
class EvaluatedModel:
    """One evaluated model.

    Attributes:
        key: its name on the page.
        directory: its evaluate run.
        rows: a row for each completion that was measured.
        evals: a row for each answer to an eval.
    """

    key: str
    directory: str
    rows: Sequence[Row]
    evals: Sequence[Row]

    def column(self, name: str) -> list[float]:
        """Return a figure of every completion whose figure is known."""
        return [float(row[name]) for row in self.rows if is_known(row, name)]

    def has(self, name: str) -> bool:
        """Whether the figure of any completion is known."""
        return any(is_known(row, name) for row in self.rows)


def is_known(row: Row, name: str) -> bool:
    """Whether the row has a value for this figure: a score may have failed."""
    return row.get(name) is not None


def read_evaluated(key: str, directory: str) -> EvaluatedModel:
    """Read what the evaluate run in `directory` wrote.

    Raises:
        DataError: it measured nothing.
    """
    evals = Path(directory) / "evals.jsonl"
    rows = [row for _, row in read_rows(Path(directory) / "completions.jsonl")]
    if not rows:
        raise DataError(f"{directory} measured no completion of {key}. Give evaluate at least one prompt.")
    return EvaluatedModel(key, directory, rows, [row for _, row in read_rows(evals)] if evals.exists() else [])


def matched(rows: Sequence[Row], others: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Return the rows of the same question, in the order of `others`; the rest is left out.

    Where a question stands several times, its rows are matched in their order.
    """
    own = dict(zip(_questions(rows), rows, strict=True))
    return [(own[question], other) for question, other in zip(_questions(others), others, strict=True) if question in own]


def compared(model: EvaluatedModel, reference: EvaluatedModel, figure: str) -> list[tuple[Row, Row]]:
    """Return the rows of both models for each prompt that both answered, if the figure of both is known.

    Raises:
        DataError: they answered no common prompt.
    """
    pairs = matched(model.rows, reference.rows)
    if not pairs:
        raise DataError(
            f"{model.key} and {reference.key} cannot be compared: no prompt of {model.directory} is among those of "
            f"{reference.directory}. Evaluate both on the same prompts."
        )
    return [(own, other) for own, other in pairs if is_known(own, figure) and is_known(other, figure)]


def unmatched_note(models: Sequence[EvaluatedModel], reference: EvaluatedModel) -> str:
    """Say for each model that answered other prompts than the reference how many both answered; "" where all are the same."""
    notes = []
    for model in models:
        pairs = len(matched(model.rows, reference.rows))
        if pairs < max(len(model.rows), len(reference.rows)):
            notes.append(f"{model.key} and {reference.key} both answered {pairs} of {len(model.rows)} and {len(reference.rows)} prompts.")
    return " ".join(notes)


def _questions(rows: Sequence[Row]) -> list[tuple[str, int]]:
    """Return what each row asks, and how many rows before it ask the same."""
    before: Counter[str] = Counter()
    questions = []
    for row in rows:
        text = json.dumps([row.get("eval"), row.get("content", row["prompt"])], sort_keys=True)
        questions.append((text, before[text]))
        before[text] += 1
    return questions

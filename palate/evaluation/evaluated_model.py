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


def wins_of(pairs: Sequence[tuple[Row, Row]], figure: str = "score") -> list[float]:
    """Return 1 where the first row's figure is the higher one, 0 where it is the lower one, and a half where both are equal."""
    return [(1.0 if a[figure] > b[figure] else 0.0 if a[figure] < b[figure] else 0.5) for a, b in pairs]


@dataclass(frozen=True)
class BiasPairs:
    """Pairs of eval answers that differ in the guest's group and in nothing else.

    Attributes:
        first: name of one group, the first in the alphabet.
        second: name of the other group.
        rows: the row of each group, by the pair's number.
    """

    first: str
    second: str
    rows: Mapping[int, Mapping[str, Row]]

    @property
    def grades(self) -> dict[int, dict[str, float]]:
        """The grade of each group, by the pair's number."""
        return {number: {group: float(row["grade"]) for group, row in pair.items()} for number, pair in self.rows.items()}


def bias_pairs(evals: Sequence[Row]) -> BiasPairs | None:
    """Return the pairs of the eval `bias`; None where there are none. A pair without one of its two answers is left out."""
    pairs: dict[int, dict[str, Row]] = {}
    for row in evals:
        if row["eval"] == "bias" and {"pair", "group"} <= row.get("fields", {}).keys():
            pairs.setdefault(int(row["fields"]["pair"]), {})[str(row["fields"]["group"])] = row
    whole = {number: pair for number, pair in pairs.items() if len(pair) == 2}
    if not whole:
        return None
    first, second = sorted(next(iter(whole.values())))
    return BiasPairs(first, second, whole)


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

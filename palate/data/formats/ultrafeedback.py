"""Several rated completions per row, as in UltraFeedback: `instruction` and `completions` with `response` and ratings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from palate.core import Message
from palate.data.cells import Columns, InvalidRow, filled, sequence
from palate.data.formats.row_types import MEAN, RatedCompletion, RatedCompletions, RatedGroups, RowKind

OVERALL = "overall_score"


@dataclass(frozen=True)
class UltraFeedbackFormat:
    """Rows with an instruction and a list of completions, each with an overall score or annotations by dimension."""

    name: str = "feedback"
    kind: RowKind = "preferences"
    needs: str = "`instruction` and `completions` (a list of {response, overall_score or annotations})"
    columns: frozenset[str] = frozenset({"instruction", "completions"})

    def fits(self, row: Columns) -> bool:
        """Whether there are an `instruction` and `completions`."""
        return "instruction" in row and "completions" in row

    def parse(self, row: Columns) -> RatedGroups:
        """The completions with their ratings. `mean` is the mean of the annotations, or the overall score if there are none."""
        completions = sequence(row["completions"], "completions")
        if not completions:
            raise InvalidRow("`completions` is not a list of completions")
        prompt = (Message("user", filled(row["instruction"], "instruction")),)
        answers = tuple(_answer(completion, f"completion {k}") for k, completion in enumerate(completions, start=1))
        return RatedGroups((RatedCompletions(prompt, answers),))


def _answer(value: object, where: str) -> RatedCompletion:
    if not isinstance(value, dict):
        raise InvalidRow(f"`completions` is not a list of completions: {where} is {type(value).__name__}")
    fields = cast("dict[str, object]", value)
    annotations = fields.get("annotations")
    annotated = cast("Mapping[str, object]", annotations) if isinstance(annotations, dict) else {}
    parsed = {dimension: _rating(note.get("Rating") if isinstance(note, dict) else note) for dimension, note in annotated.items()}
    ratings = {dimension: rating for dimension, rating in parsed.items() if rating is not None}
    overall = _rating(fields.get(OVERALL))
    mean = sum(ratings.values()) / len(ratings) if ratings else overall
    named = {**ratings, OVERALL: overall, MEAN: mean}
    return RatedCompletion(
        filled(fields.get("response"), "response"), {dimension: value for dimension, value in named.items() if value is not None}
    )


def _rating(value: object) -> float | None:
    """A rating as a number, or None. UltraFeedback writes ratings as texts, and `N/A` for a missing one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None

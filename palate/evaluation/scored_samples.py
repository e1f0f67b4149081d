"""Reading what `palate score` wrote: samples whose completions have scores by dimension, and gold for them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from palate.config.functions import load_gold
from palate.core import DataError
from palate.data.formats import CompletionGroup, read_completion_groups
from palate.data.jsonl import Row, read_rows
from palate.evaluation.front import GoldColumns, ScoreTable


@dataclass(frozen=True)
class ScoredSamples:
    """Samples with scores.

    Attributes:
        rows: the rows of the file of which some completion has scores, each with those completions alone.
        table: the scores.
        groups: the same completions with their prompts.
        unscored: completions without a score, which cannot be chosen.
    """

    rows: tuple[Row, ...]
    table: ScoreTable
    groups: tuple[CompletionGroup, ...]
    unscored: int

    def gold(self, function: str) -> GoldColumns:
        """Return what a gold function says of all completions, and the mean of its dimensions as `gold`."""
        gold = load_gold(function)
        found = []
        for group in self.groups:
            scores = [dict(gold(group.prompt.text, one.text, **group.prompt.fields)) for one in group.completions]
            columns = {name: np.array([float(score[name]) for score in scores]) for name in scores[0]}
            found.append({"gold": np.mean(list(columns.values()), axis=0), **{f"gold {name}": column for name, column in columns.items()}})
        return tuple(found)


def read_scored(path: Path) -> ScoredSamples:
    """Read scored samples.

    Raises:
        DataError: a row cannot be read or has no completions, a completion has no scores by dimension, rows have scores of other
            dimensions, or no completion has a score.
    """
    groups = read_completion_groups(path)
    if groups.dropped:
        raise DataError(f"{groups.dropped[0].source}: {groups.dropped[0].reason}. A front needs every row: score the samples again")
    rows = [cast("dict[str, Any]", row) for _, row in read_rows(path)]
    kept_rows, kept_groups, tables = list[Row](), list[CompletionGroup](), list[np.ndarray]()
    dimensions: tuple[str, ...] | None = None
    unscored = 0
    for number, (row, group) in enumerate(zip(rows, groups.rows, strict=True), 1):
        entries = [_scores(entry, path, number) for entry in row.get("completions", [])]
        if not entries:
            raise DataError(f"{path}, row {number}: there are no `completions` with `scores`. Write them with `palate score`")
        known = [k for k, scores in enumerate(entries) if scores is not None]
        unscored += len(entries) - len(known)
        for scores in (entries[k] or {} for k in known):
            dimensions = dimensions or tuple(scores)
            if set(scores) != set(dimensions):
                raise DataError(
                    f"{path}, row {number}: scores of {', '.join(scores)}, and of {', '.join(dimensions)} before. Score all rows with one "
                    "model"
                )
        if known:
            kept_rows.append({**row, "completions": [row["completions"][k] for k in known]})
            kept_groups.append(CompletionGroup(group.prompt, tuple(group.completions[k] for k in known)))
            tables.append(np.array([[float((entries[k] or {})[name]) for name in dimensions or ()] for k in known]))
    if not tables:
        raise DataError(f"{path}: no completion has a score, so there is nothing to choose from")
    return ScoredSamples(tuple(kept_rows), ScoreTable(dimensions or (), tuple(tables)), tuple(kept_groups), unscored)


def _scores(entry: object, path: Path, number: int) -> Mapping[str, float] | None:
    """Return the scores of a completion by dimension; None where one of them is null."""
    scores = entry.get("scores") if isinstance(entry, dict) else None
    if not isinstance(scores, dict) or not scores:
        raise DataError(f"{path}, row {number}: a completion has no `scores` by dimension. Write them with `palate score`")
    for name, value in scores.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if value is not None and not is_number:
            raise DataError(f"{path}, row {number}: the score of {name} is {value!r}. A score is a finite number, or null without one")
    return None if None in scores.values() else scores

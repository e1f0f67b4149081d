"""Grades of criteria as votes: the criteria of a rubric are items of their own, and what they are counted under are the dimensions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from palate.agreement.vote_table import VoteTable
from palate.agreement.votes import CRITERION_ANSWERS


@dataclass(frozen=True, slots=True)
class Grading:
    """What a rater says of one criterion about one completion.

    Attributes:
        completion: the completion's name.
        criterion: the criterion's id in the completion's rubric.
        dimension: what its votes are counted under.
        rater: who says it.
        is_met: whether the criterion is met.
        seconds: time spent on the whole rubric.
    """

    completion: str
    criterion: str
    dimension: str
    rater: str
    is_met: bool
    seconds: float | None


def table_of_grades(rows: Iterable[Grading]) -> VoteTable:
    """Return the table of grades of criteria. A rater's last grade counts. The grades of one completion go together in every error."""
    grades = list(rows)
    about = {f"{grade.completion}/{grade.criterion}": grade for grade in grades}
    table = VoteTable.of_verdicts((f"{g.completion}/{g.criterion}", g.rater, not g.is_met, g.seconds) for g in grades)
    asked = [about[name] for name in table.votes.items]
    completions = {name: k for k, name in enumerate(dict.fromkeys(g.completion for g in asked))}
    dimensions = sorted({g.dimension for g in asked})
    return replace(
        table,
        votes=replace(table.votes, answers=CRITERION_ANSWERS),
        comparison=np.array([completions[g.completion] for g in asked], dtype=np.int64),
        dimension=np.array([dimensions.index(g.dimension) for g in asked], dtype=np.int64),
        dimensions=tuple(dimensions),
    )

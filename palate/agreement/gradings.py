"""Grades of criteria as votes: the criteria of a rubric are items of their own, and what they are counted under are the dimensions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from palate.agreement.estimates import Ints
from palate.agreement.judge_answers import AnswerColumns, JudgeAnswers
from palate.agreement.vote_table import VoteTable, numbers_of
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
        prompt: what the completion answers.
        probability: how likely the rater finds it that the criterion is met; None for one who says yes or no.
    """

    completion: str
    criterion: str
    dimension: str
    rater: str
    is_met: bool
    seconds: float | None
    prompt: str = ""
    probability: float | None = None

    @property
    def question(self) -> tuple[str, str]:
        """What is asked: the completion and the criterion."""
        return self.completion, self.criterion


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


def answers_of_grades(judge: Iterable[Grading], people: Iterable[Grading]) -> JudgeAnswers:
    """Return a judge's grades and people's as answers to questions with two options, of which "met" is the first, and always stands first.

    So a report card measures a judge of criteria as it measures one of pairs. A taste for the first option is a judge that is lenient, and
    there are neither lengths nor policies. A rater's last grade counts. The grades of one completion are one comparison.
    """
    given = [{(g.question, g.rater): g for g in side} for side in (judge, people)]
    asked = {g.question: g for side in given for g in side.values()}
    numbers = {question: k for k, question in enumerate(asked)}
    empty = np.full((len(asked), 2), np.nan)
    prompt, completion = (numbers_of(names) for names in ([g.prompt for g in asked.values()], [g.completion for g in asked.values()]))
    tables = (table_of_grades(side.values()) for side in given)
    columns = [_columns(list(side.values()), numbers) for side in given]
    unknown = np.full((len(asked), 2), -1)
    return JudgeAnswers(columns[0], columns[1], empty, unknown, empty[:, 0], prompt, completion, empty, (), *tables)


def _columns(grades: list[Grading], numbers: dict[tuple[str, str], int]) -> AnswerColumns:
    raters = {name: k for k, name in enumerate(dict.fromkeys(g.rater for g in grades))}
    pair, rater = (_whole(values) for values in ([numbers[g.question] for g in grades], [raters[g.rater] for g in grades]))
    first = np.array([float(g.is_met) if g.probability is None else g.probability for g in grades], dtype=np.float64)
    has_probability = np.array([g.probability is not None for g in grades], dtype=np.bool_)
    answer, shown = _whole([0 if g.is_met else 2 for g in grades]), np.zeros(len(grades), dtype=np.int64)
    return AnswerColumns(pair, rater, answer, shown, first, has_probability, np.full(len(grades), -1))


def _whole(values: list[int]) -> Ints:
    return np.array(values, dtype=np.int64)

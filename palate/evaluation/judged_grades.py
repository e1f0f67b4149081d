"""The criteria that a judge and people graded on the same completions, in one file or in two, joined by what they ask."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from palate.agreement.estimates import Estimate, Floats
from palate.agreement.gradings import Grading, answers_of_grades
from palate.agreement.judge_agreement import JudgeAgreement, agreement_with_people, clustered_mean
from palate.agreement.judge_answers import JudgeAnswers
from palate.core import DataError, derive_seed
from palate.data.exchange import Exchange, RaterKind
from palate.data.judge_names import judge_of
from palate.data.rubrics import rubric_of
from palate.evaluation.judged_pairs import is_judge, judge_among
from palate.evaluation.rater_votes import SEVERAL, reason_to_leave_out

ALWAYS = {"always what is shown first": "always met", "always a tie": "always met", "always what is shown second": "always not met"}
"""What a judge that reads nothing says, by what it says of pairs."""


@dataclass(frozen=True, slots=True)
class CriterionAgreement:
    """Agreement with people on one criterion. `criterion` is its id; ids with several texts are counted together."""

    criterion: str
    agreement: JudgeAgreement


@dataclass(frozen=True, slots=True)
class GradeFigures:
    """What a report card says of grades alone.

    Attributes:
        leniency: how much more often the judge says that a criterion is met than a person does, as a difference of shares.
        criteria: agreement by criterion, those with most grades of people first.
    """

    leniency: Estimate
    criteria: tuple[CriterionAgreement, ...]


@dataclass(frozen=True, slots=True)
class JudgedGrades:
    """What a judge and people say about the same criteria.

    Attributes:
        judge: the judge's name.
        table: all grades.
        by_criterion: the same by criterion.
        kinds: number of people's grades by kind of rater; simulated raters stand for people.
        data: digest of all grades that count.
    """

    judge: str
    table: JudgeAnswers
    by_criterion: Mapping[str, JudgeAnswers]
    kinds: dict[RaterKind, int]
    data: str

    def figures(self, seed: int) -> GradeFigures:
        """Measure what only grades have."""
        by_name = [
            CriterionAgreement(
                name, named_constant(agreement_with_people(part, np.random.default_rng(derive_seed(seed, "criterion", name))))
            )
            for name, part in self.by_criterion.items()
        ]
        ordered = sorted(by_name, key=lambda one: -one.agreement.votes)
        return GradeFigures(leniency(self.table, np.random.default_rng(derive_seed(seed, "leniency"))), tuple(ordered))


def has_grades(exchange: Exchange, judge: str | None) -> bool:
    """Return whether models (the judge, where it is named) graded criteria here."""
    kinds = exchange.kinds()
    return any(
        vote.grades and (is_judge(vote.judgment.rater, kinds) if judge is None else judge in _names(vote.judgment.rater))
        for vote in exchange.votes
    )


def judged_grades(judgments: Exchange, people: Exchange | None = None, judge: str | None = None) -> JudgedGrades:
    """Return the criteria that a judge and people graded.

    Args:
        judgments: the judge's grades; and people's, if they are not elsewhere.
        people: people's grades.
        judge: the judge's name as a rater. By default the only model among the raters.

    Raises:
        ConfigError: it is not clear which rater is the judge.
        DataError: the judge and people graded no criterion in common.
    """
    read = _GradeReader()
    mine = read.take(judgments)
    theirs = mine if people is None else read.take(people)
    name = judge_among(mine.kinds, judge)
    said = [grade for grade in mine.grades if name in _names(grade.rater)]
    heard = [grade for grade in theirs.grades if theirs.kinds[grade.rater] not in {"model", "rule"} and name not in _names(grade.rater)]
    common = {grade.question for grade in said} & {grade.question for grade in heard}
    if not common:
        raise _no_common_grades(name, said, heard)
    by_criterion: dict[str, tuple[list[Grading], list[Grading]]] = defaultdict(lambda: ([], []))
    for side, grades in enumerate((said, heard)):
        for grade in grades:
            if grade.question in common:
                by_criterion[read.counted_as(grade.criterion)][side].append(grade)
    tables = {criterion: answers_of_grades(*sides) for criterion, sides in by_criterion.items()}
    kinds = Counter(theirs.kinds[grade.rater] for grade in heard if grade.question in common)
    return JudgedGrades(name, answers_of_grades(said, heard), tables, dict(kinds), _digest([*said, *heard]))


def named_constant(agreement: JudgeAgreement) -> JudgeAgreement:
    """Return the agreement with the constant answer in the words of grades."""
    return replace(agreement, constant_answer=ALWAYS[agreement.constant_answer])


def leniency(table: JudgeAnswers, rng: np.random.Generator) -> Estimate:
    """Return the share of people's grades on which the judge says "met", less the share on which the person says so; paired by grade."""
    verdict, people = table.verdict, table.people
    votes = people.selected(verdict[people.pair] >= 0)
    more: Floats = (votes.answer - verdict[votes.pair]) / 2
    return clustered_mean(more, table.cluster[votes.pair], rng)


@dataclass(frozen=True, slots=True)
class _Grades:
    """The grades of one file that count, and its raters."""

    grades: tuple[Grading, ...]
    kinds: dict[str, RaterKind]


@dataclass
class _GradeReader:
    """Reads grades from one file or several. Those of the same criterion of the same text answer one question."""

    texts: dict[str, set[str]] = field(default_factory=dict)

    def take(self, exchange: Exchange) -> _Grades:
        """Return the grades of a file. Hidden tests and criteria that a rater is unsure of do not count."""
        items = {item.id: item for item in exchange.items}
        rubrics = {item.id: rubric_of(item.fields["rubric"]) for item in exchange.items if item.task == "rubric"}
        grades: list[Grading] = []
        for vote in exchange.votes:
            item, said = items[vote.judgment.comparison], vote.judgment
            rubric = rubrics.get(item.id)
            if rubric is None or not vote.grades or vote.entry == "undo" or item.gold is not None or reason_to_leave_out(vote, item):
                continue
            (candidate,) = item.candidates
            prompt = json.dumps([turn.text.strip() for turn in item.conversation])
            completion = json.dumps([prompt, candidate.text, candidate.tool_fields])
            for criterion in rubric.criteria:
                word = vote.grades.get(criterion.id, "unsure")
                if word != "unsure":
                    self.texts.setdefault(criterion.id, set()).add(criterion.text)
                    name = json.dumps([criterion.id, criterion.text])
                    met = vote.grade_probabilities.get(criterion.id)
                    grades.append(Grading(completion, name, "overall", said.rater, word == "met", said.seconds, prompt, met))
        named = exchange.kinds()
        kinds: dict[str, RaterKind] = {rater: "model" if is_judge(rater, named) else kind for rater, kind in named.items()}
        return _Grades(tuple(grades), kinds)

    def counted_as(self, criterion: str) -> str:
        """What grades of a criterion are counted under: its id, where this names one text."""
        identity: str = json.loads(criterion)[0]
        return identity if len(self.texts[identity]) == 1 else SEVERAL


def _names(rater: str) -> tuple[str, str]:
    return rater, judge_of(rater)


def _no_common_grades(judge: str, said: Sequence[Grading], heard: Sequence[Grading]) -> DataError:
    if not said or not heard:
        who = judge if not said else "any person"
        return DataError(f"there is no grade of a criterion by {who} here. Give files with grades of both; --people names that of people.")
    return DataError(
        f"{judge} and people graded no criterion in common ({len({g.question for g in said})} and {len({g.question for g in heard})} "
        "questions). They are joined by the texts of prompt, completion and criterion. Give grades of the same completions."
    )


def _digest(grades: Iterable[Grading]) -> str:
    """Return a digest of grades, whatever the files and their items are called."""
    rows = sorted(json.dumps([g.completion, g.criterion, g.rater, g.is_met, g.probability]) for g in grades)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()

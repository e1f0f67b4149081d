"""The report card of a judge: agreement with people beside floors and ceiling, habits, and calibration; and what these figures mean."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import numpy as np

from palate.agreement.estimates import Estimate, json_values
from palate.agreement.judge_agreement import JudgeAgreement, agreement_with_people
from palate.agreement.judge_answers import JudgeAnswers
from palate.agreement.judge_habits import MATTERS, MIN_LABELS, NO_HABITS, JudgeHabits, habits_of
from palate.core import derive_seed
from palate.data.exchange import Exchange, RaterKind
from palate.data.judge_names import judge_name
from palate.data.marks import Mark
from palate.evaluation.judge_calibration import FittedCalibration, fitted_calibration
from palate.evaluation.judged_grades import GradeFigures, JudgedGrades, has_grades, judged_grades, named_constant
from palate.evaluation.judged_pairs import judged_pairs
from palate.evaluation.mark_calibration import FittedMarks, MarkDistance, fitted_marks, mark_distance
from palate.judges.judge_card import NO_MARKS, OVERALL, CardEntry, JudgeCard

STEADY_FLIPS = 0.05
"""A judge is said to change its verdict with the order where the interval of its flips lies above this share."""


@dataclass(frozen=True, slots=True)
class JudgedDimension:
    """What is known about a judge on one dimension.

    Attributes:
        dimension: the dimension.
        agreement: agreement with people, floors and ceiling.
        habits: flips, and tastes for side, length and own style.
        is_by_prompt: whether errors are clustered by prompt; with few prompts, by comparison.
        has_probabilities: whether the judge gave probabilities.
        same_answer: what the judge always answers; "" if its answers differ.
        missing: why it is not calibrated; "" where it is.
        fitted: temperature and threshold, and what they change on held-out prompts. None where it is not calibrated.
        marks_missing: why its marks of single completions are not calibrated; "" where they are.
        marks: their scale, and what it is worth on held-out prompts. None where they are not calibrated.
        distance: how far its marks are from people's own marks; None where people gave fewer than 50.
        grades: what only grades of criteria have; None for a judge that compares. Then `agreement` counts criteria of completions as pairs.
    """

    dimension: str
    agreement: JudgeAgreement
    habits: JudgeHabits
    is_by_prompt: bool
    has_probabilities: bool
    same_answer: str
    missing: str
    fitted: FittedCalibration | None
    marks_missing: str = NO_MARKS
    marks: FittedMarks | None = None
    distance: MarkDistance | None = None
    grades: GradeFigures | None = None


@dataclass(frozen=True, slots=True)
class JudgeReport:
    """A judge's report card.

    Attributes:
        judge: its name.
        dimensions: what was measured, by dimension.
        people: number of people's votes by kind of rater.
        data: digest of the judgments.
        is_joined_by_text: False where files without texts were joined by the names of items.
    """

    judge: str
    dimensions: tuple[JudgedDimension, ...]
    people: dict[RaterKind, int]
    data: str
    is_joined_by_text: bool

    @property
    def card(self) -> JudgeCard:
        """The card as a file holds it."""
        entries = {}
        for one in self.dimensions:
            figures = cast("dict[str, Any]", json_values(asdict(one)))
            calibration = None if one.fitted is None else one.fitted.calibration
            marks = None if one.marks is None else one.marks.calibration
            told = figures | {"findings": list(findings(one))}
            entries[one.dimension] = CardEntry(one.agreement.pairs, one.missing, calibration, marks, one.marks_missing, told)
        return JudgeCard(self.judge, entries, self.data)

    def plain(self) -> dict[str, Any]:
        """The report as JSON values, with its verdicts in words. Undefined and infinite numbers are null."""
        words = [{"verdict": verdict(self.judge, one), "findings": findings(one)} for one in self.dimensions]
        plain = cast("dict[str, Any]", json_values(asdict(self)))
        return plain | {"dimensions": [row | json_values(said) for row, said in zip(plain["dimensions"], words, strict=True)]}


def report_on_judge(
    judgments: Exchange,
    people: Exchange | None = None,
    *,
    judge: str | None = None,
    dimension: str | None = None,
    own: Sequence[str] = (),
    marks: Sequence[Mark] = (),
    seed: int = 0,
) -> JudgeReport:
    """Measure a judge on people's votes.

    Args and errors are those of `judged_pairs`, or of `judged_grades` for a judge that grades criteria. Those of the marks that are
    people's own are compared with the judge's besides, and `seed` is that of bootstrap and split.
    """
    if has_grades(judgments, judge):
        return _report_on_grader(judged_grades(judgments, people, judge), seed)
    pairs = judged_pairs(judgments, people, judge, dimension, own, marks)
    measured = []
    for name, table in pairs.dimensions.items():
        drawn = derive_seed(seed, "judge", name)
        theirs = [mark for mark in marks if (mark.dimension or OVERALL) == name and not is_model(mark.rater, pairs.judge)]
        distance = mark_distance(pairs.marks[name], theirs, np.random.default_rng(drawn + 4))
        measured.append(replace(judged_dimension(name, table, drawn), distance=distance))
    return JudgeReport(pairs.judge, tuple(measured), pairs.kinds, pairs.data, pairs.is_joined_by_text)


def is_model(rater: str, judge: str) -> bool:
    """Return whether a rater of marks is the judge, or has the name of one; all others are people."""
    return rater == judge or judge_name(rater) is not None


def _report_on_grader(given: JudgedGrades, seed: int) -> JudgeReport:
    """Measure a judge of criteria: all of them together, as one dimension, because most criteria have few grades of people."""
    drawn = derive_seed(seed, "judge", OVERALL)
    agreement = named_constant(agreement_with_people(given.table, np.random.default_rng(drawn)))
    same = {"": "", "what is shown first": "met", "what is shown second": "not met"}[given.table.same_answer]
    why, fit = _calibrated(given.table, agreement, same, drawn, "people graded {} of its criteria", "criterion")
    has_probabilities = bool(given.table.judge.has_probability.all())
    measured = JudgedDimension(OVERALL, agreement, NO_HABITS, given.table.is_by_prompt, has_probabilities, same, why, fit)
    return JudgeReport(given.judge, (replace(measured, grades=given.figures(drawn)),), given.kinds, given.data, is_joined_by_text=True)


def _calibrated(
    table: JudgeAnswers, agreement: JudgeAgreement, same: str, seed: int, counted: str, noun: str
) -> tuple[str, FittedCalibration | None]:
    """Return why the judge is not calibrated, and its calibration if it is."""
    fitted: FittedCalibration | str
    if agreement.pairs < MIN_LABELS:
        lacking = MIN_LABELS - agreement.pairs
        fitted = f"{counted.format(agreement.pairs)}, and calibration takes {MIN_LABELS}; {lacking} are missing"
    elif same:
        fitted = f"it gives the same answer to every {noun} ({same})"
    else:
        fitted = fitted_calibration(table, np.random.default_rng(seed + 2))
    return (fitted, None) if isinstance(fitted, str) else ("", fitted)


def judged_dimension(name: str, table: JudgeAnswers, seed: int) -> JudgedDimension:
    """Measure a judge on one dimension, without people's marks."""
    agreement = agreement_with_people(table, np.random.default_rng(seed))
    habits = habits_of(table, np.random.default_rng(seed + 1))
    same = table.same_answer
    why, fit = _calibrated(table, agreement, same, seed, "people judged {} of its pairs", "pair")
    has_marks = not np.isnan(table.marks).all()
    marked = fitted_marks(table, np.random.default_rng(seed + 3)) if has_marks else NO_MARKS
    marks_missing, marks = (marked, None) if isinstance(marked, str) else ("", marked)
    has_probabilities = bool(table.judge.has_probability.all())
    return JudgedDimension(name, agreement, habits, table.is_by_prompt, has_probabilities, same, why, fit, marks_missing, marks)


def verdict(judge: str, one: JudgedDimension) -> str:
    """Return the sentence that comes first: whether the judge is calibrated, and on what; and its marks, where it gave any."""
    counts = one.agreement.pairs, one.agreement.votes
    on = "{} pairs that people judged ({} votes)" if one.grades is None else "{} criteria of completions that people graded ({} grades)"
    sentence = f"{judge} is calibrated for {one.dimension}, on {on.format(*counts)}."
    if one.missing:
        sentence = f"{judge} is not calibrated for {one.dimension}: {one.missing}."
    if one.marks is not None:
        return f"{sentence} Its marks are calibrated as the score of a reward."
    return sentence if one.marks_missing == NO_MARKS else f"{sentence} Its marks are not: {one.marks_missing}."


def findings(one: JudgedDimension) -> tuple[str, ...]:
    """Return a sentence for each thing that the figures establish and that a user of the judge should know, the gravest first."""
    sentences = []
    if one.same_answer:
        noun = "pair" if one.grades is None else "criterion"
        sentences.append(f"It gives the same answer to every {noun}: {one.same_answer}. Its answers do not depend on the completions.")
    sentences += _beside_rules(one.agreement, "pairs judged" if one.grades is None else "completions graded")
    if one.grades is not None and one.grades.leniency.excludes_zero and abs(one.grades.leniency.value) >= MATTERS:
        more = "more" if one.grades.leniency.value > 0 else "less"
        threshold = " Its threshold makes up for that." if one.fitted is not None and one.fitted.calibration.threshold != 0.5 else ""
        sentences.append(f'It says "met" {more} often than people, by {points(one.grades.leniency)}.{threshold}')
    flips = one.habits.flips
    if flips is not None and flips.share.low > STEADY_FLIPS and not one.same_answer:
        sentences.append(
            f"Its verdict changes with the order of the sides on {flips.share.value:.1%} of pairs. Ask in both orders, and take the mean."
        )
    sentences += [_taste(name, one) for name in one.habits.found]
    return (*sentences, *_marks_beside_rules(one.marks))


def _marks_beside_rules(marks: FittedMarks | None) -> Iterator[str]:
    """Yield a sentence for each rule whose predictions of held-out pairs the marks do not surpass beyond chance."""
    if marks is None:
        return
    for gain, rule in ((marks.over_constant, "one half for every pair"), (marks.over_longer, "the length rule")):
        if gain is None or gain.low > 0:
            continue
        interval = f"{gain.value:+.3f} nats [{gain.low:+.3f}, {gain.high:+.3f}]"
        if gain.high < 0:
            yield f"Its marks predict what people prefer worse than {rule} ({interval}). Do not use them as a reward."
        else:
            yield f"Its marks cannot be told from {rule} ({interval}). Have more pairs judged by people, or use another judge."


def _beside_rules(agreement: JudgeAgreement, judged: str) -> list[str]:
    sentences = []
    for gain, rule in ((agreement.over_constant, "a constant answer"), (agreement.over_longer, "the rule that the longer one wins")):
        if gain.n and gain.high < 0:
            sentences.append(f"It agrees with people less than {rule} does ({points(gain)}). Do not use its verdicts.")
        elif gain.n and not gain.low > 0:
            sentences.append(f"It cannot be told from {rule} ({points(gain)}). Have more {judged} by people, or use another judge.")
    people, judge = agreement.people.decided, agreement.judge.decided
    if people.n and judge.n and judge.high < people.low:
        sentences.append(f"It agrees with a person less ({judge.value:.1%}) than people agree among themselves ({people.value:.1%}).")
    return sentences


def _taste(name: str, one: JudgedDimension) -> str:
    habits = one.habits
    if name == "side":
        which = "first" if habits.side.judge.value > 0 else "second"
        return f"It prefers what is shown {which}, whatever that is. Ask in both orders, and take the mean."
    taste = habits.length.beyond if name == "length" else habits.own.beyond
    if name == "length":
        more = "longer" if taste.value > 0 else "shorter"
        return f"It prefers the {more} completion beyond what people say: ten words move it by {points(taste)}. Watch the lengths."
    style = "prefers" if taste.value > 0 else "marks down"
    return (
        f"It {style} completions of {', '.join(habits.policies)} beyond what people say, by {points(taste)}. Let another model judge them."
    )


def points(share: Estimate) -> str:
    """Return a difference of shares in percentage points, with its interval."""
    interval = "interval without ends" if math.isinf(share.low) else f"{100 * share.low:+.1f}, {100 * share.high:+.1f}"
    return f"{100 * share.value:+.1f} points [{interval}]"

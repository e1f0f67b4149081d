"""Figures of the dashboard: how far raters agree, and what each of them did; the statistics are those of `palate.agreement`."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from palate.agreement import AgreementReport, Estimate, RaterReport, Survey, analyse
from palate.stores.ratings import Heard, Project, Ratings, Worked
from palate.stores.ratings.votes import judgments_of_answer
from palate.web.wording import words_of

SEED = 0
"""Of the bootstrap: the same votes give the same intervals each time the page is loaded."""

DAYS = 60
"""Rows of the time log that are shown."""


@dataclass(frozen=True)
class Figure:
    """One number with its 95 % interval where it has one; `least` to `most` is the range in which it is drawn."""

    name: str
    value: float
    meaning: str
    low: float | None = None
    high: float | None = None
    least: float = 0.0
    most: float = 1.0

    def at(self, value: float) -> float:
        """Where a value stands between the ends, 0 to 1."""
        return min(1.0, max(0.0, (value - self.least) / (self.most - self.least)))


@dataclass(frozen=True)
class RaterRow:
    """What one rater did in a project; shares are None where there is nothing to share. `account` is its id."""

    account: str
    pseudonym: str
    judgments: int
    seconds: float | None
    agreement: float | None
    expected: float | None
    gold: float | None
    gold_asked: int
    first: float | None
    hours: float
    is_guessing: bool


@dataclass(frozen=True)
class Findings:
    """What the answers say of their raters.

    Attributes:
        figures: of all raters.
        raters: a row for each, the busiest first.
        worked: (account's id, what it did in the project on a day), the last days first.
        answers: how many answers the figures are of.
        number: of the newest row of judgments when they were counted.
    """

    figures: tuple[Figure, ...]
    raters: tuple[RaterRow, ...]
    worked: tuple[tuple[str, Worked], ...]
    answers: int
    number: int


@dataclass
class _Said:
    """What one rater said: answers that count, and the seconds of those that tell them."""

    pseudonym: str
    answers: int = 0
    seconds: list[float] = field(default_factory=list)


def findings(ratings: Ratings, project: Project, number: int) -> Findings:
    """The figures of a project, of all its answers; reads every one of them.

    Args:
        ratings: the store.
        project: whose.
        number: of the newest row of judgments, read before; answers that came since may be in the figures.
    """
    said: dict[str, _Said] = {}

    def listened() -> Iterator[Heard]:
        for one in ratings.heard(project.id):
            rater = said.setdefault(one.rater, _Said(one.pseudonym))
            rater.answers += 1
            if one.answer.seconds is not None:
                rater.seconds.append(one.answer.seconds)
            yield one

    figures, reports = _of_rankings(_survey(ratings, project, listened())) if _ranks(project) else (_shares(listened()), {})
    busiest = sorted(said.items(), key=lambda one: -one[1].answers)
    rows = tuple(_row(rater, one, reports.get(one.pseudonym)) for rater, one in busiest)
    return Findings(figures, rows, _worked(ratings, project.id), sum(one.answers for one in said.values()), number)


def _ranks(project: Project) -> bool:
    return project.task.kind in {"compare", "rank"}


def _worked(ratings: Ratings, project: str) -> tuple[tuple[str, Worked], ...]:
    logs = ((one.id, day) for one in ratings.accounts(project) for day in ratings.time_log(one.id) if day.project == project)
    return tuple(sorted(logs, key=lambda one: one[1].day, reverse=True)[:DAYS])


def _survey(ratings: Ratings, project: Project, answers: Iterator[Heard]) -> Survey:
    comparisons, gold = ratings.shown(project.id)
    known, axis = {one.id for one in comparisons}, project.task.axes[0]
    told = (
        judgment
        for one in answers
        if one.item in known
        for judgment in judgments_of_answer(one.item, one.pseudonym, one.order, one.answer, axis)
    )
    return Survey.of_judgments(told, comparisons, gold)


def _of_rankings(survey: Survey) -> tuple[tuple[Figure, ...], dict[str, RaterReport]]:
    if not len(survey.votes):
        return (), {}
    report = analyse(survey, np.random.default_rng(SEED))
    return _figures(report), {one.rater: one for one in report.by_rater}


def _figures(report: AgreementReport) -> tuple[Figure, ...]:
    raw = f"mean share of two raters of one pair who say the same; {report.doubles} pairs have two answers or more"
    found = [
        _estimate("Raw agreement", report.agreement, raw),
        _estimate("Without ties", report.agreement_without_ties, "the same, of the answers that are no tie"),
        _estimate("Krippendorff's alpha", report.alpha, "0 is chance, 1 is full agreement; a tie is an answer like others", least=-0.2),
        _estimate("Alpha, ordinal", report.alpha_ordinal, "a tie lies between the sides, so it is half a disagreement", least=-0.2),
        _estimate("First side chosen", report.side.share, "0.5 is fair: sides are drawn at random"),
        _estimate("Longer one chosen", report.length.share, "0.5 is indifferent to length; more is not wrong in itself"),
    ]
    if report.ceiling is not None:
        meaning = "best accuracy that a reward model can show against one such rater"
        found.append(Figure("Ceiling of a reward model", report.ceiling.accuracy, meaning))
    return tuple(one for one in found if one is not None and not math.isnan(one.value))


def _estimate(name: str, found: Estimate, meaning: str, *, least: float = 0.0) -> Figure | None:
    if not found.n:
        return None
    known = not (math.isnan(found.low) or math.isnan(found.high))
    # Normal intervals of few votes reach beyond what the figure can be.
    low, high = (max(found.low, least), min(found.high, 1.0)) if known else (None, None)
    return Figure(name, found.value, meaning, low, high, least)


def _shares(answers: Iterator[Heard]) -> tuple[Figure, ...]:
    """Raw agreement where answers are no rankings."""
    votes: dict[str, list[Hashable]] = defaultdict(list)
    for one in answers:
        votes[one.item].append(words_of(one.answer, one.order))
    pairs = [one == other for said in votes.values() for one, other in combinations(said, 2)]
    return (Figure("Raw agreement", sum(pairs) / len(pairs), f"share of {len(pairs)} pairs of raters who say the same"),) if pairs else ()


def _row(rater: str, said: _Said, report: RaterReport | None) -> RaterRow:
    return RaterRow(
        account=rater,
        pseudonym=said.pseudonym,
        judgments=said.answers,
        seconds=float(np.median(said.seconds)) if said.seconds else None,
        agreement=report.agreement.value if report and report.agreement else None,
        expected=report.expected if report else None,
        gold=report.gold.value if report and report.gold else None,
        gold_asked=report.gold.n if report and report.gold else 0,
        first=report.first_shown.value if report and report.first_shown else None,
        hours=sum(said.seconds) / 3600,
        is_guessing=report is not None and report.is_guessing,
    )

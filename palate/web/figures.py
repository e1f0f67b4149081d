"""Figures of the dashboard: how far raters agree, and what each of them did; the statistics are those of `palate.agreement`."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from palate.agreement import AgreementReport, Bias, DimensionReport, Estimate, RaterReport, VoteTable, advice, analyse
from palate.agreement.estimates import share
from palate.ratings import CountedAnswer, Project, Ratings, WorkDay
from palate.ratings.standing_answers import is_right, judgments_of_answer
from palate.web.answer_text import words_of

SEED = 0
"""Of the bootstrap: the same votes give the same intervals each time the page is loaded."""

_APART = {
    "write": "What raters write is not compared with one another: there is no figure of agreement.",
    "probe": "Each rater of a probe judges a dialogue of his own: there is no figure of agreement.",
}
"""Why some tasks have no figures."""

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
    agreement: Estimate | None
    expected: float | None
    reliability: float | None
    gold: Estimate | None
    first: Estimate | None
    hours: float
    is_guessing: bool


@dataclass(frozen=True)
class ProjectFigures:
    """What the answers say of their raters.

    Attributes:
        figures: of all raters.
        raters: a row for each, the busiest first.
        advice: what to do about them, by pseudonym.
        worked: (account's id, what it did in the project on a day), the last days first.
        answers: how many answers the figures are of.
        number: of the newest row of judgments when they were counted.
    """

    figures: tuple[Figure, ...]
    raters: tuple[RaterRow, ...]
    advice: tuple[str, ...]
    worked: tuple[tuple[str, WorkDay], ...]
    answers: int
    number: int


@dataclass
class _RaterTally:
    """What one rater said: answers that count, the seconds of those that tell them, and whether each on yes-or-no gold is right."""

    pseudonym: str
    answers: int = 0
    seconds: list[float] = field(default_factory=list)
    tests: list[bool] = field(default_factory=list)


def findings(ratings: Ratings, project: Project, number: int) -> ProjectFigures:
    """The figures of a project, of all its answers; reads every one of them.

    Args:
        ratings: the store.
        project: whose.
        number: of the newest row of judgments, read before; answers that came since may be in the figures.
    """
    said: dict[str, _RaterTally] = {}

    def listened() -> Iterator[CountedAnswer]:
        for one in ratings.counted_answers(project.id):
            rater = said.setdefault(one.rater, _RaterTally(one.pseudonym))
            rater.answers += 1
            if one.answer.seconds is not None:
                rater.seconds.append(one.answer.seconds)
            yield one

    report = _report(_survey(ratings, project, listened())) if _ranks(project) else None
    figures = _shares(ratings, project, listened(), said) if not _ranks(project) else () if report is None else _figures(report)
    reports = {} if report is None else {one.rater: one for one in report.by_rater}
    busiest = sorted(said.items(), key=lambda one: -one[1].answers)
    rows = tuple(_row(rater, one, reports.get(one.pseudonym)) for rater, one in busiest)
    told = (_APART[project.task.kind],) if project.task.kind in _APART else () if report is None else advice(report)
    return ProjectFigures(figures, rows, told, _worked(ratings, project.id), sum(one.answers for one in said.values()), number)


def _ranks(project: Project) -> bool:
    return project.task.kind in {"compare", "rank"}


def _worked(ratings: Ratings, project: str) -> tuple[tuple[str, WorkDay], ...]:
    logs = ((one.id, day) for one in ratings.accounts(project) for day in ratings.time_log(one.id) if day.project == project)
    return tuple(sorted(logs, key=lambda one: one[1].day, reverse=True)[:DAYS])


def _survey(ratings: Ratings, project: Project, answers: Iterator[CountedAnswer]) -> VoteTable:
    shown, dimension = ratings.asked_items(project.id), project.task.dimensions[0]
    known = {one.id for one in shown.comparisons}
    gold = {item: right for item, right in shown.gold.items() if not isinstance(right, bool)}
    told = (
        judgment
        for one in answers
        if one.item in known
        for judgment in judgments_of_answer(one.item, one.pseudonym, one.order, one.answer, dimension)
    )
    return VoteTable.of_judgments(told, shown.comparisons, gold, dimension)


def _report(survey: VoteTable) -> AgreementReport | None:
    return analyse(survey, np.random.default_rng(SEED)) if len(survey.votes) else None


def _figures(report: AgreementReport) -> tuple[Figure, ...]:
    raw = f"mean share of two raters of one pair who say the same; {report.doubles} questions have two answers or more"
    found = [
        _estimate("Raw agreement", report.agreement, raw),
        _estimate("Without ties", report.agreement_without_ties, "the same, of the answers that are no tie"),
        _estimate("Krippendorff's alpha", report.alpha, "0 is chance, 1 is full agreement; a tie is an answer like others", least=-0.2),
        _estimate("Alpha, ordinal", report.alpha_ordinal, "a tie lies between the sides, so it is half a disagreement", least=-0.2),
        _estimate("Alpha, interval", report.alpha_interval, "the same with answers as numbers, a tie halfway", least=-0.2),
        *(_estimate(f"Alpha on {one.dimension}", one.alpha, "on this dimension alone", least=-0.2) for one in _axes(report)),
        _estimate("Alpha of strengths", report.alpha_strength, "how far raters give the same strength, ties 0", least=-0.2),
        *_kappas(report),
        _estimate("First side chosen", report.side.share, "0.5 is fair: sides are drawn at random"),
        _odds("Log-odds for the first side", report.side, "0 is fair; what policies account for is taken out"),
        _estimate("Longer one chosen", report.length.share, "0.5 is indifferent to length; more is not wrong in itself"),
        _odds("Log-odds for ten words more", report.length, "0 is indifferent; side and policies are taken out"),
    ]
    if report.ceiling is not None:
        meaning = "best accuracy that a reward model can show against one such rater"
        found.append(Figure("Ceiling of a reward model", report.ceiling.accuracy, meaning))
    return tuple(one for one in found if one is not None and not math.isnan(one.value))


def _axes(report: AgreementReport) -> tuple[DimensionReport, ...]:
    return report.dimensions if len(report.dimensions) > 1 else ()


def _kappas(report: AgreementReport) -> tuple[Figure, ...]:
    return (
        Figure("Cohen's kappa", report.cohen, "of two raters beyond chance, mean over pairs of them", least=-0.2),
        Figure("Fleiss' kappa", report.fleiss, "of all raters beyond chance; alpha corrects it for few answers", least=-0.2),
    )


def _odds(name: str, bias: Bias, meaning: str) -> Figure | None:
    if not bias.logit.n or math.isnan(bias.logit.low):
        return None
    beside = f"{meaning}; +- {bias.logit.se:.3f}, +- {bias.rater_se:.3f} if the raters were others"
    widest = max(1.0, abs(bias.logit.low), abs(bias.logit.high))
    return Figure(name, bias.logit.value, beside, bias.logit.low, bias.logit.high, -widest, widest)


def _estimate(name: str, found: Estimate | None, meaning: str, *, least: float = 0.0) -> Figure | None:
    if found is None or not found.n:
        return None
    known = not (math.isnan(found.low) or math.isnan(found.high))
    # Normal intervals of few votes reach beyond what the figure can be.
    low, high = (max(found.low, least), min(found.high, 1.0)) if known else (None, None)
    return Figure(name, found.value, meaning, low, high, least)


def _shares(ratings: Ratings, project: Project, answers: Iterator[CountedAnswer], said: Mapping[str, _RaterTally]) -> tuple[Figure, ...]:
    """Raw agreement where answers are yes or no; `said` is told how each rater answered hidden gold."""
    shown = ratings.asked_items(project.id)
    votes: dict[str, list[Hashable]] = defaultdict(list)
    for one in answers:
        right = shown.gold.get(one.item)
        if right is not None:
            said[one.rater].tests.append(is_right(one.answer, one.order, right))
        elif one.item in shown.items and project.task.kind not in _APART:
            votes[one.item].append(words_of(one.answer, one.order))
    pairs = [one == other for said in votes.values() for one, other in combinations(said, 2)]
    return (Figure("Raw agreement", sum(pairs) / len(pairs), f"share of {len(pairs)} pairs of raters who say the same"),) if pairs else ()


def _row(rater: str, said: _RaterTally, report: RaterReport | None) -> RaterRow:
    return RaterRow(
        account=rater,
        pseudonym=said.pseudonym,
        judgments=said.answers,
        seconds=float(np.median(said.seconds)) if said.seconds else None,
        agreement=report.agreement if report else None,
        expected=report.expected if report else None,
        reliability=report.reliability if report else None,
        gold=report.gold if report else share(sum(said.tests), len(said.tests)) if said.tests else None,
        first=report.first_shown if report else None,
        hours=sum(said.seconds) / 3600,
        is_guessing=report is not None and report.is_guessing,
    )

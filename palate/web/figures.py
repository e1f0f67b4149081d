"""Figures of the dashboard: how far raters agree, and what each of them did. The statistics come from `palate.agreement`."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np

from palate.agreement import AgreementReport, Bias, Estimate, RaterReport, VoteTable, advice, analyse, nearest
from palate.agreement.estimates import share
from palate.data.exchange import Exchange
from palate.ratings import CountedAnswer, Project, Ratings, WorkDay
from palate.ratings.standing_answers import is_right, judgments_of_answer
from palate.web.display import answer_in_words
from palate.web.model_figures import ModelRow, is_model, model_rows

SEED = 0
"""Seed of the bootstrap, so that the same votes give the same intervals whenever the page is loaded."""

DRAWN_FROM = -0.2
"""Where the drawing of an alpha or a kappa begins, unless it lies further left."""

_WITHOUT_AGREEMENT = {
    "write": "Answers that raters write are not compared, so there is no figure of agreement.",
    "probe": "Each rater of a probe judges a different dialogue, so there is no figure of agreement.",
}
"""Tasks without figures of agreement, and the reason."""

DAYS = 60
"""Rows of the time log on the page."""


@dataclass(frozen=True)
class Figure:
    """One number, with its 95 % interval if it has one. It is drawn in the range from `least` to `most`."""

    name: str
    value: float
    meaning: str
    low: float | None = None
    high: float | None = None
    least: float = 0.0
    most: float = 1.0

    def at(self, value: float) -> float:
        """Return the position of a value in the drawn range, 0 to 1."""
        return min(1.0, max(0.0, (value - self.least) / (self.most - self.least)))


@dataclass(frozen=True)
class RaterRow:
    """What one rater did in a project. `account` is its id. A share is None without answers for it, `hours` without measured times."""

    account: str
    pseudonym: str
    judgments: int
    seconds: float | None
    agreement: Estimate | None
    expected: float | None
    reliability: float | None
    gold: Estimate | None
    first: Estimate | None
    hours: float | None
    is_guessing: bool


@dataclass(frozen=True)
class ProjectFigures:
    """What the answers say about their raters.

    Attributes:
        figures: of the people among the raters; of models only where nobody else answered.
        raters: a row per person, the busiest first.
        models: a row per model and dimension.
        advice: what to do about them, with pseudonyms.
        worked: (account's id, its work in the project on a day), the last days first.
        is_of_people: whether figures and advice are of people alone.
        answers: how many answers the figures cover.
        number: number of the newest row of judgments when the figures were computed.
    """

    figures: tuple[Figure, ...]
    raters: tuple[RaterRow, ...]
    models: tuple[ModelRow, ...]
    advice: tuple[str, ...]
    worked: tuple[tuple[str, WorkDay], ...]
    is_of_people: bool
    answers: int
    number: int


@dataclass
class _RaterTally:
    """The counted answers of one rater: their number, the recorded seconds, and whether each answer to yes-or-no gold is right."""

    pseudonym: str
    answers: int = 0
    seconds: list[float] = field(default_factory=list)
    gold: list[bool] = field(default_factory=list)


def project_figures(ratings: Ratings, project: Project, number: int) -> ProjectFigures:
    """Return the figures of all answers of a project. This reads every answer.

    As in `palate agreement`, models stand in a table of their own where people answered too, and all other figures are of people alone.

    Args:
        ratings: the store.
        project: the project.
        number: number of the newest row of judgments, read before. The figures may cover answers that came since.
    """
    models = {account.id for account in ratings.accounts() if is_model(account)}
    of_people = _measured(ratings, project, models)
    found = of_people if of_people.answers or not models else _measured(ratings, project, set())
    exchange = ratings.as_exchange(project.id) if models else Exchange()
    return replace(
        found,
        raters=of_people.raters,
        models=model_rows(exchange, np.random.default_rng(SEED)),
        worked=_time_log(ratings, project.id, models),
        is_of_people=found is of_people,
        number=number,
    )


def _measured(ratings: Ratings, project: Project, left_out: Set[str]) -> ProjectFigures:
    """Return the figures of all answers except those of the accounts that are left out, without models and the time log."""
    tallies: dict[str, _RaterTally] = {}

    def tallied_answers() -> Iterator[CountedAnswer]:
        for counted in ratings.counted_answers(project.id):
            if counted.rater in left_out:
                continue
            tally = tallies.setdefault(counted.rater, _RaterTally(counted.pseudonym))
            tally.answers += 1
            if counted.answer.seconds is not None:
                tally.seconds.append(counted.answer.seconds)
            yield counted

    has_rankings = project.task.kind in {"compare", "rank"}
    votes = _vote_table(ratings, project, tallied_answers()) if has_rankings else None
    report = analyse(votes, np.random.default_rng(SEED)) if votes is not None and len(votes.votes) else None
    if not has_rankings:
        figures = _yes_no_agreement(ratings, project, tallied_answers(), tallies)
    else:
        figures = () if report is None else _figures(report)
    reports = {} if report is None else {rater.rater: rater for rater in report.by_rater}
    busiest = sorted(tallies.items(), key=lambda entry: -entry[1].answers)
    rows = tuple(_row(account, tally, reports.get(tally.pseudonym)) for account, tally in busiest)
    if project.task.kind in _WITHOUT_AGREEMENT:
        lines: tuple[str, ...] = (_WITHOUT_AGREEMENT[project.task.kind],)
    else:
        lines = () if report is None else advice(report)
    answers = sum(tally.answers for tally in tallies.values())
    return ProjectFigures(figures, rows, (), lines, (), is_of_people=True, answers=answers, number=0)


def _time_log(ratings: Ratings, project: str, left_out: Set[str]) -> tuple[tuple[str, WorkDay], ...]:
    people = (account.id for account in ratings.accounts(project) if account.id not in left_out)
    logs = ((person, day) for person in people for day in ratings.time_log(person) if day.project == project)
    return tuple(sorted(logs, key=lambda entry: entry[1].day, reverse=True)[:DAYS])


def _vote_table(ratings: Ratings, project: Project, answers: Iterator[CountedAnswer]) -> VoteTable:
    items, dimension = ratings.asked_items(project.id), project.task.dimensions[0]
    compared = {comparison.id: comparison for comparison in items.comparisons}
    gold = {item: right for item, right in items.gold.items() if not isinstance(right, bool)}
    judgments = (
        judgment
        for counted in answers
        if counted.item in compared
        for judgment in judgments_of_answer(compared[counted.item], counted.pseudonym, counted.order, counted.answer, dimension)
    )
    return VoteTable.of_judgments(judgments, items.comparisons, gold, dimension)


def _figures(report: AgreementReport) -> tuple[Figure, ...]:
    raw = f"how often two raters of one pair give the same answer; {report.doubles} questions have two answers or more"
    dimensions = report.dimensions if len(report.dimensions) > 1 else ()
    figures = [
        _estimate("Raw agreement", report.agreement, raw),
        _estimate("Without ties", report.agreement_without_ties, "the same, without answers that are ties"),
        _alpha("Krippendorff's alpha", report.alpha, "0 is chance, 1 is full agreement; a tie is an answer like the others"),
        _alpha("Alpha, ordinal", report.alpha_ordinal, "a tie lies between the sides, so it counts as half a disagreement"),
        _alpha("Alpha, interval", report.alpha_interval, "the same with answers as numbers and a tie halfway"),
        *(_alpha(f"Alpha on {each.dimension}", each.alpha, "on this dimension alone") for each in dimensions),
        _alpha("Alpha of strengths", report.alpha_strength, "how far raters give the same strength, with ties as 0"),
        *_kappas(report),
        _estimate("First side chosen", report.side.share, "0.5 is fair, because sides are drawn at random"),
        _odds("Log-odds for the first side", report.side, "0 is fair; the effect of policies is taken out"),
        _estimate("Longer one chosen", report.length.share, "0.5 is indifferent to length; more is not wrong in itself"),
        _odds("Log-odds for ten words more", report.length, "0 is indifferent; the effects of side and policies are taken out"),
    ]
    if report.ceiling is not None:
        meaning = "best accuracy that a reward model can reach against one such rater"
        figures.append(Figure("Ceiling of a reward model", report.ceiling.accuracy, meaning))
    return tuple(figure for figure in figures if figure is not None and math.isfinite(figure.value))


def _kappas(report: AgreementReport) -> tuple[Figure, ...]:
    kappas = (
        ("Cohen's kappa", report.cohen, "agreement of two raters beyond chance, averaged over pairs of raters"),
        ("Fleiss' kappa", report.fleiss, "agreement of all raters beyond chance; alpha corrects it for few answers"),
    )
    return tuple(Figure(name, value, meaning, least=min(DRAWN_FROM, value)) for name, value, meaning in kappas)


def _odds(name: str, bias: Bias, meaning: str) -> Figure | None:
    if bias.logit.n and math.isinf(bias.logit.value):
        least = nearest(bias.logit)
        limit = max(1.0, 2 * abs(least))
        text = f"{meaning}; this is its {'least' if least > 0 else 'highest'} value, as the votes know no exception"
        return Figure(name, least, text, None, None, -limit, limit)
    if not bias.logit.n or not (math.isfinite(bias.logit.low) and math.isfinite(bias.logit.high)):
        return None
    logit, others = bias.logit, "not known" if math.isnan(bias.rater_se) else f"+- {bias.rater_se:.3f}"
    text = f"{meaning}; +- {logit.se:.3f}, and with other raters {others}"
    low, high = min(logit.low, logit.value), max(logit.high, logit.value)  # a tiny error is lost in rounding
    limit = max(1.0, abs(low), abs(high))
    return Figure(name, logit.value, text, low, high, -limit, limit)


def _estimate(name: str, estimate: Estimate | None, meaning: str) -> Figure | None:
    """Return the figure of a share, which lies between 0 and 1."""
    return _bounded(name, estimate, meaning, least=0.0, drawn_from=0.0)


def _alpha(name: str, estimate: Estimate | None, meaning: str) -> Figure | None:
    """Return the figure of an alpha. It is at most 1, and below 0 where raters contradict each other."""
    return _bounded(name, estimate, meaning, least=-math.inf, drawn_from=DRAWN_FROM)


def _bounded(name: str, estimate: Estimate | None, meaning: str, *, least: float, drawn_from: float) -> Figure | None:
    """Return the figure. Its interval ends where the figure cannot go on (`least`, 1), and always holds the figure itself.

    The drawing begins at `drawn_from`, or further left if the interval does.
    """
    if estimate is None or not estimate.n:
        return None
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return Figure(name, estimate.value, meaning, least=min(drawn_from, estimate.value))
    # Normal intervals of few votes reach beyond what the figure can be, and intervals of resampled votes can miss it.
    low, high = min(max(estimate.low, least), estimate.value), max(min(estimate.high, 1.0), estimate.value)
    return Figure(name, estimate.value, meaning, low, high, min(drawn_from, low))


def _yes_no_agreement(
    ratings: Ratings, project: Project, answers: Iterator[CountedAnswer], tallies: Mapping[str, _RaterTally]
) -> tuple[Figure, ...]:
    """Return the raw agreement of yes-or-no answers. Adds to `tallies` whether each answer to hidden gold is right."""
    items = ratings.asked_items(project.id)
    votes: dict[str, list[Hashable]] = defaultdict(list)
    for counted in answers:
        right = items.gold.get(counted.item)
        if right is not None:
            tallies[counted.rater].gold.append(is_right(counted.answer, counted.order, right))
        elif counted.answer.grades and counted.item in items.items:
            for criterion, word in counted.answer.grades.items():
                if word != "unsure":
                    votes[f"{counted.item}/{criterion}"].append(word)
        elif counted.item in items.items and project.task.kind not in _WITHOUT_AGREEMENT:
            votes[counted.item].append(answer_in_words(counted.answer, counted.order))
    pairs = [first == second for item_votes in votes.values() for first, second in combinations(item_votes, 2)]
    meaning = f"share of {len(pairs)} pairs of raters who give the same answer"
    return (Figure("Raw agreement", sum(pairs) / len(pairs), meaning),) if pairs else ()


def _row(account: str, tally: _RaterTally, report: RaterReport | None) -> RaterRow:
    return RaterRow(
        account=account,
        pseudonym=tally.pseudonym,
        judgments=tally.answers,
        seconds=float(np.median(tally.seconds)) if tally.seconds else None,
        agreement=report.agreement if report else None,
        expected=report.expected if report else None,
        reliability=report.reliability if report else None,
        gold=report.gold if report else share(sum(tally.gold), len(tally.gold)) if tally.gold else None,
        first=report.first_shown if report else None,
        hours=sum(tally.seconds) / 3600 if tally.seconds else None,
        is_guessing=report is not None and report.is_guessing,
    )

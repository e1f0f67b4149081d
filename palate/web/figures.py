"""Figures of the dashboard: how far raters agree, and what each of them did; the statistics are those of `palate.agreement`."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from palate.agreement import AgreementReport, Estimate, RaterReport, Survey, analyse
from palate.stores.ratings import Account, Entry, Project, Ratings
from palate.web.wording import words_of

SEED = 0
"""Of the bootstrap: the same votes give the same intervals each time the page is loaded."""


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
    """What one rater did in a project; shares are None where there is nothing to share."""

    name: str
    pseudonym: str
    kind: str
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
    """What the answers say of their raters: figures of all, a row for each."""

    figures: tuple[Figure, ...]
    raters: tuple[RaterRow, ...]


def findings(ratings: Ratings, project: Project, accounts: Mapping[str, Account]) -> Findings:
    """The figures of a project."""
    entries = standing(ratings, project.id)
    if project.task.kind in {"compare", "rank"} and entries:
        report = analyse(_survey(ratings, project), np.random.default_rng(SEED))
        return Findings(_figures(report), _rows(entries, accounts, {one.rater: one for one in report.by_rater}))
    return Findings(_shares(entries), _rows(entries, accounts, {}))


def standing(ratings: Ratings, project: str) -> list[Entry]:
    """Answers that count: kept, not taken back, not skipped, by raters."""
    found = ratings.judgments(project)
    return [one for one in found if one.is_standing and one.kind == "answer" and one.status == "kept" and not one.answer.skipped]


def _survey(ratings: Ratings, project: Project) -> Survey:
    comparisons, judgments = ratings.as_comparisons(project.id)
    gold = {one.id: one.gold for one in ratings.items(project.id) if one.gold is not None}
    return Survey.of_judgments(judgments, comparisons, gold)


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


def _shares(entries: list[Entry]) -> tuple[Figure, ...]:
    """Raw agreement where answers are no rankings."""
    votes: dict[str, list[Hashable]] = defaultdict(list)
    for entry in entries:
        votes[entry.item].append(words_of(entry.answer, entry.order))
    pairs = [one == other for said in votes.values() for one, other in combinations(said, 2)]
    return (Figure("Raw agreement", sum(pairs) / len(pairs), f"share of {len(pairs)} pairs of raters who say the same"),) if pairs else ()


def _rows(entries: list[Entry], accounts: Mapping[str, Account], reports: Mapping[str, RaterReport]) -> tuple[RaterRow, ...]:
    mine: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        mine[entry.rater].append(entry)
    busiest = sorted(mine.items(), key=lambda one: -len(one[1]))
    return tuple(_row(said, accounts.get(rater), reports.get(said[0].pseudonym)) for rater, said in busiest)


def _row(said: list[Entry], account: Account | None, report: RaterReport | None) -> RaterRow:
    seconds = [entry.answer.seconds for entry in said if entry.answer.seconds is not None]
    return RaterRow(
        name=account.name if account else "",
        pseudonym=said[0].pseudonym,
        kind=account.kind if account else "person",
        judgments=len(said),
        seconds=float(np.median(seconds)) if seconds else None,
        agreement=report.agreement.value if report and report.agreement else None,
        expected=report.expected if report else None,
        gold=report.gold.value if report and report.gold else None,
        gold_asked=report.gold.n if report and report.gold else 0,
        first=report.first_shown.value if report and report.first_shown else None,
        hours=sum(seconds) / 3600,
        is_guessing=report is not None and report.is_guessing,
    )

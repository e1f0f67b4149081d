"""Figures of the dashboard: how far raters agree, and what each of them did."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from itertools import combinations

from palate.stores.ratings import Account, Entry, Project, Ratings
from palate.web.wording import words_of


@dataclass(frozen=True)
class Figure:
    """One number with its 95 % interval where it has one; `least` to `most` is the range that it can take."""

    name: str
    value: float
    meaning: str
    low: float | None = None
    high: float | None = None
    least: float = 0.0
    most: float = 1.0

    @property
    def unit_range(self) -> bool:
        """Whether it can be drawn between its ends."""
        return self.most > self.least

    def at(self, value: float) -> float:
        """Where a value stands between the ends, 0 to 1."""
        return min(1.0, max(0.0, (value - self.least) / (self.most - self.least)))


@dataclass(frozen=True)
class Agreement:
    """What is known, and a remark."""

    figures: tuple[Figure, ...]
    note: str = ""


@dataclass(frozen=True)
class RaterRow:
    """What one rater did in a project. Shares are None where there is nothing to share."""

    name: str
    pseudonym: str
    kind: str
    judgments: int
    seconds: float | None
    majority: float | None
    gold_asked: int
    gold_right: int
    first: float | None
    hours: float


def standing(ratings: Ratings, project: str) -> list[Entry]:
    """Answers that count: kept, not taken back, not skipped, by raters."""
    found = ratings.judgments(project)
    return [one for one in found if one.is_standing and one.kind == "answer" and one.status == "kept" and not one.answer.skipped]


def agreement_of(ratings: Ratings, project: Project) -> Agreement:
    """Agreement on the first axis."""
    votes: dict[str, list[Hashable]] = defaultdict(list)
    for entry in standing(ratings, project.id):
        votes[entry.item].append(words_of(entry.answer, entry.order))
    pairs = [one == other for said in votes.values() for one, other in combinations(said, 2)]
    if not pairs:
        return Agreement(())
    share = sum(pairs) / len(pairs)
    return Agreement((Figure("Raw agreement", share, f"share of {len(pairs)} pairs of raters on one item who say the same"),))


def rater_rows(ratings: Ratings, project: Project, accounts: Mapping[str, Account]) -> list[RaterRow]:
    """A row for each rater with an answer, the busiest first."""
    entries = standing(ratings, project.id)
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    mine: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        votes[entry.item][words_of(entry.answer, entry.order)] += 1
        mine[entry.rater].append(entry)
    return [_row(ratings, project, accounts.get(rater), said, votes) for rater, said in sorted(mine.items(), key=lambda one: -len(one[1]))]


def _row(ratings: Ratings, project: Project, account: Account | None, said: list[Entry], votes: Mapping[str, Counter[str]]) -> RaterRow:
    seconds = sorted(entry.answer.seconds for entry in said if entry.answer.seconds is not None)
    with_others = [_is_with_others(entry, votes[entry.item]) for entry in said]
    known = [one for one in with_others if one is not None]
    sides = [entry.answer.ranking[0] == (0,) for entry in said if len(entry.order) == 2 and len(entry.answer.ranking) == 2]
    record = ratings.gold_record(project.id, said[0].rater)
    return RaterRow(
        name=account.name if account else "",
        pseudonym=said[0].pseudonym,
        kind=account.kind if account else "person",
        judgments=len(said),
        seconds=seconds[len(seconds) // 2] if seconds else None,
        majority=sum(known) / len(known) if known else None,
        gold_asked=record.asked,
        gold_right=record.right,
        first=sum(sides) / len(sides) if sides else None,
        hours=sum(seconds) / 3600,
    )


def _is_with_others(entry: Entry, votes: Counter[str]) -> bool | None:
    """Whether most of the other raters of the item say the same; None where they are nobody or divided."""
    own = words_of(entry.answer, entry.order)
    others = votes - Counter([own])
    total = sum(others.values())
    if not total:
        return None
    word, most = others.most_common(1)[0]
    return word == own if most * 2 > total else None

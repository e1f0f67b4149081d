"""Small projects for tests of the rating store."""

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from palate.core import Message
from palate.ratings import Account, Answer, Assignment, Candidate, Item, Project, Ratings, Receipt, open_ratings

FIRST = Answer(ranking=((0,), (1,)), seconds=3.0)
"""The place shown first is better."""


def pair(name: str, **changes: object) -> Item:
    """A question with two candidates."""
    item = Item((Message("user", f"question {name}"),), (Candidate(f"{name} a", policy="old"), Candidate(f"{name} b", policy="new")))
    return replace(item, **changes)  # type: ignore[arg-type]


def new_file(path: Path) -> str:
    """Write a database with the tables of today and no rows, and return its path. The tables are made once per process."""
    path.write_bytes(_tables())
    return str(path)


@functools.cache
def _tables() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "ratings.db"
        open_ratings(str(path), create=True).close()
        return path.read_bytes()


@dataclass
class Team:
    """A project with raters, a clock and a generator."""

    ratings: Ratings
    project: Project
    raters: list[Account]
    random: Random
    now: float = 1_000_000.0
    keys: int = 0

    def claim(self, rater: int = 0) -> Assignment | None:
        return self.ratings.claim(self.project.id, self.raters[rater].id, self.now, self.random)

    def sure(self, rater: int = 0) -> Assignment:
        found = self.claim(rater)
        assert found is not None
        return found

    def submit(self, assignment: Assignment, answer: Answer = FIRST, rater: int = 0) -> Receipt:
        self.keys += 1
        self.now += answer.seconds or 0.0  # it takes the time that it says
        return self.ratings.submit(assignment.id, self.raters[rater].id, answer, f"key {self.keys}", self.now)

    def judge(self, rater: int = 0, answer: Answer = FIRST) -> Assignment:
        assignment = self.sure(rater)
        assert self.submit(assignment, answer, rater).status == "kept"
        return assignment

    def undo(self, rater: int = 0) -> Assignment | None:
        self.keys += 1
        return self.ratings.undo(self.project.id, self.raters[rater].id, f"undo {self.keys}", self.now)


def team(ratings: Ratings, *, items: int = 4, raters: int = 2, extra: tuple[Item, ...] = (), **settings: object) -> Team:
    """A project of pairs with its members; the first is the owner."""
    made = Project("pairs", **({"lease_seconds": 60.0} | settings))  # type: ignore[arg-type]
    project = ratings.add_project(made, 1.0)
    people = [ratings.add_account(f"rater {n}", "rater" if n else "owner", 1.0 + n) for n in range(raters)]
    for person in people:
        ratings.join(project.id, person.id, 2.0)
    if items or extra:
        ratings.add_items(project.id, [*(pair(str(n)) for n in range(items)), *extra], 3.0)
    return Team(ratings, project, people, Random(7))


def said(crew: Team, rater: int, candidate: int, seconds: float = 4.0) -> None:
    """The rater's next answer: this candidate is better, wherever it stands."""
    assignment = crew.sure(rater)
    place = assignment.order.index(candidate)
    crew.submit(assignment, Answer(ranking=((place,), (1 - place,)), seconds=seconds), rater)

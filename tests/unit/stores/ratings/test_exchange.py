"""A project out of a database and into another one, and every kind of file into a project: all of it or nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from palate.core import Message
from palate.stores.exchange import read_exchange, write_exchange
from palate.stores.ratings import Answer, Candidate, Item, Ratings, Task, open_ratings
from tests.support import postgres
from tests.support.ratings import Team, pair, team

LEVEL = Answer(ranking=((0, 1),), axes={"honest": ((1,), (0,))}, strength=0.0, seconds=0.0, reason="both \u2028 fine")


@pytest.fixture(params=["sqlite", "postgresql"])
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ratings]:
    """Another empty database."""
    is_file = request.param == "sqlite"
    url = str(tmp_path / "other.db") if is_file else postgres.new_database(request.getfixturevalue("server"))
    opened = open_ratings(url, create=True)
    yield opened
    opened.close()


def busy(ratings: Ratings) -> Team:
    """A project in which everything happened that can."""
    gold = pair("gold", gold=((1,), (0,)))
    test = pair("test", gold=((0,), (1,)), is_qualification=True)
    odd = pair("odd", fields={"n": [1, None, {"a": 0.5}], "source_id": "theirs"}, stratum="soups", policy="third")
    tools = Item((Message("user", "Call."), Message("tool", "42", '{"a": 1}')), (Candidate("x", tool_fields="[]"), Candidate("y")))
    task = Task(axes=("overall", "honest"), all_bad=True, strength=True)
    crew = team(ratings, items=6, raters=4, extra=(gold, test, odd, tools), task=task, overlap=2, max_overlap=3, gold_share=0.2)
    crew.ratings.set_guideline(crew.project.id, "Be fair.", 5.0, warning="hard")
    for rater in range(3):
        held = crew.judge(rater, LEVEL)  # the qualification
        assert ratings.item(held.item).is_qualification
        ratings.qualify(crew.project.id, crew.raters[rater].id, 6.0)
        crew.now += 0.123456789
    both = ((0,), (1,))
    crew.judge(0, Answer(all_bad=True, flag="odd"))
    crew.judge(1, Answer(skipped=True, reason="hard"))
    crew.judge(0, Answer(ranking=both, axes={"honest": both}, strength=2, seconds=3))
    crew.undo(0)
    held = crew.judge(0, Answer(ranking=((1,), (0,)), axes={"honest": both}))
    crew.submit(held, LEVEL)  # a second answer
    crew.undo(0)
    ratings.set_guideline(crew.project.id, "Be fairer.", 7.0)
    late = crew.sure(2)
    crew.now += 100
    assert crew.submit(late, LEVEL, 2).status == "surplus"
    gone = crew.judge(1, LEVEL)
    ratings.remove_item(gone.item, crew.now)
    for rater in (0, 1, 2):
        crew.judge(rater, LEVEL)
    ratings.adjudicate(held.item, crew.raters[0].id, Answer(ranking=both, axes={"honest": both}), "decided", crew.now)
    ratings.erase(crew.raters[2].id, crew.now)
    return crew


def lines(ratings: Ratings, project: str, file: Path) -> bytes:
    """The project's lossless file."""
    write_exchange(ratings.as_exchange(project), file)
    return file.read_bytes()


def told(ratings: Ratings, project: str) -> list[object]:
    """What the table of judgments holds, without ids that are made anew."""
    return [
        (one.id, one.item, one.pseudonym, one.order, one.answer, one.status, one.kind, one.supersedes, one.guideline, one.created)
        for one in ratings.judgments(project)
    ]


def test_a_project_comes_out_of_another_database_as_it_went_in(ratings: Ratings, other: Ratings, tmp_path: Path) -> None:
    crew = busy(ratings)
    before = lines(ratings, crew.project.id, tmp_path / "a.jsonl")
    done = other.import_exchange(read_exchange(tmp_path / "a.jsonl"), "pairs", 1.0)
    assert done.judgments == len(list(ratings.judgments(crew.project.id)))
    assert lines(other, done.project.id, tmp_path / "b.jsonl") == before
    assert other.check() == ()
    assert told(other, done.project.id) == told(ratings, crew.project.id)
    rows = [json.loads(line).get("judgment", {}) for line in before.decode().split("\n") if line]
    assert {row.get("status") for row in rows} == {None, "surplus", "superseded"}
    assert {row.get("entry") for row in rows} == {None, "undo", "adjudication"}
    assert {row.get("was_surplus") for row in rows} == {None, True}
    assert not any(person.name in before.decode() for person in crew.raters)
    assert all(one.name == "" and other.password_hash(one.id) is None for one in other.accounts())
    again = other.import_exchange(read_exchange(tmp_path / "a.jsonl"), "pairs", 1.0)
    assert (again.items, again.judgments, again.raters) == ((), 0, 0)
    assert lines(other, done.project.id, tmp_path / "c.jsonl") == before

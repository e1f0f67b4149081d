"""Seconds that a page claims are cut to those that its rater can have had."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, insert

from palate.ratings import Answer, Ratings, schema
from palate.ratings.worked_time import PAGE, possible_seconds
from tests.support.ratings import Team, team


def answered(crew: Team, number: int, at: float, seconds: float | None, rater: int = 0) -> float | None:
    """The seconds that are kept of an answer to the assignment with this number in the order of claims."""
    crew.now = at
    held = crew.ratings.claim_many(crew.project.id, crew.raters[rater].id, at, Random(1), 1 + number)[number][0]
    crew.keys += 1
    answer = Answer(ranking=((0,), (1,)), seconds=seconds)
    crew.ratings.submit(held.id, crew.raters[rater].id, answer, f"key {crew.keys}", at)
    return list(crew.ratings.judgments(crew.project.id))[-1].answer.seconds


def claimed(crew: Team, count: int, rater: int = 0) -> None:
    crew.ratings.claim_many(crew.project.id, crew.raters[rater].id, crew.now, Random(1), count)


def test_no_more_than_since_the_item_was_handed_out(ratings: Ratings) -> None:
    crew = team(ratings, lease_seconds=1e6)
    claimed(crew, 2)
    start = crew.now
    assert answered(crew, 0, start + 100, 86_400) == pytest.approx(100)
    assert answered(crew, 0, start + 160, 86_400) == pytest.approx(60)  # it was handed out with the first, which took the rest
    assert answered(crew, 0, start + 200, None) is None


def test_three_answers_at_once_are_not_three_times_the_time(ratings: Ratings) -> None:
    crew = team(ratings, lease_seconds=1e6)
    claimed(crew, 3)
    kept = [answered(crew, 0, crew.now + (90 if not number else 0), 60.0) for number in range(3)]
    assert kept == pytest.approx([60, 30, 0])


def test_every_answer_since_the_item_was_handed_out_counts_however_many_there_are(ratings: Ratings) -> None:
    count = PAGE + 5
    crew = team(ratings, items=count + 2, lease_seconds=1e6)
    claimed(crew, count + 2)
    start = crew.now
    assert answered(crew, 0, start + 60, 60.0) == 60
    assert [answered(crew, 0, start + 60 + number, 1.0) for number in range(1, count + 1)] == [1.0] * count
    assert answered(crew, 0, start + 60 + count + 5, 86_400) == pytest.approx(5)


def test_answers_kept_on_a_device_without_a_network_keep_their_times(ratings: Ratings) -> None:
    crew = team(ratings, lease_seconds=1e6)
    claimed(crew, 2)
    assert answered(crew, 0, crew.now + 100, 30.0) == 30
    assert answered(crew, 0, crew.now, 70.0) == pytest.approx(70)


def test_an_item_begun_later_is_not_charged_for_work_before_it(ratings: Ratings) -> None:
    crew = team(ratings, lease_seconds=1e6)
    claimed(crew, 1)
    crew.now += 50
    claimed(crew, 2)
    assert answered(crew, 0, crew.now + 50, 50.0) == 50  # of the first 50 seconds
    assert answered(crew, 0, crew.now, 50.0) == pytest.approx(50)


def test_the_time_of_another_rater_or_long_ago_does_not_count(ratings: Ratings) -> None:
    crew = team(ratings, overlap=2, lease_seconds=1e6)
    claimed(crew, 1)
    assert answered(crew, 0, crew.now + 100, 100.0) == 100
    claimed(crew, 1, rater=1)
    assert answered(crew, 0, crew.now + 100, 100.0, rater=1) == 100
    claimed(crew, 1)
    assert answered(crew, 0, crew.now + 100, 100.0) == 100


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 80)), max_size=45))
def test_all_seconds_together_fit_into_the_time(jobs: list[tuple[int, int, int]]) -> None:
    """Whatever is claimed: the union of the times between handing out and answering holds all of it."""
    engine = create_engine("sqlite://")
    schema.metadata.create_all(engine, tables=[schema.assignments, schema.judgments])
    total = 0.0
    ends = sorted((begun + length, begun, seconds) for begun, length, seconds in jobs)
    with engine.begin() as connection:
        for number, (now, begun, seconds) in enumerate(ends):
            kept = possible_seconds(connection, "r", begun, now, seconds)
            assert kept is not None
            assert 0 <= kept <= min(seconds, now - begun)
            total += kept
            shared = {"project": "p", "item": f"i{number}", "rater": "r", "shown": [], "guideline": 1}
            connection.execute(insert(schema.assignments).values(id=f"a{number}", claimed=begun, expires=now, state="done", **shared))
            columns = {"id": f"j{number}", "assignment": f"a{number}", "key": f"k{number}", "answer": {"seconds": kept}, "created": now}
            connection.execute(insert(schema.judgments).values(is_skip=False, status="kept", kind="answer", **columns, **shared))
    covered = {moment for now, begun, _ in ends for moment in range(begun, now)}
    assert total <= len(covered) + 1e-6
    engine.dispose()

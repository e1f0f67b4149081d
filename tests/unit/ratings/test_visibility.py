"""Who may see what others answered to an item, and what they cannot do afterwards."""

import pytest

from palate.core import DataError
from palate.ratings import Answer, Ratings
from tests.support.ratings import FIRST, Team, pair, team

SECOND = Answer(ranking=((1,), (0,)))


def look(crew: Team, item: str, rater: int) -> bool:
    return crew.ratings.view_answers(item, crew.raters[rater].id, crew.now)


def test_a_skip_opens_nothing_and_who_looked_cannot_come_back_to_it(ratings: Ratings) -> None:
    crew = team(ratings, items=1, raters=3, overlap=1)
    skipped = crew.sure(0)
    crew.submit(skipped, Answer(skipped=True), 0)
    assert not look(crew, skipped.item, 0)
    crew.judge(1)
    assert ratings.may_view(skipped.item, crew.raters[0].id)
    assert not ratings.has_viewed(skipped.item, crew.raters[0].id)
    assert look(crew, skipped.item, 0)
    assert ratings.has_viewed(skipped.item, crew.raters[0].id)
    with pytest.raises(DataError, match="seen what others answered"):
        crew.undo(0)
    crew.undo(1)  # a place is free again
    ratings.release(crew.sure(1).id, crew.raters[1].id)
    assert crew.claim(0) is None
    assert crew.submit(skipped, SECOND, 0).status == "surplus"
    assert crew.claim(2) is not None
    assert ratings.check() == ()


def test_while_one_more_vote_is_wanted_nobody_looks_who_could_give_it(ratings: Ratings) -> None:
    crew = team(ratings, items=1, raters=4, overlap=2, max_overlap=3)
    item = crew.judge(0, FIRST).item
    order = ratings.judgments_of(item)[0].order
    other = crew.sure(1)
    crew.submit(other, SECOND if other.order == order else FIRST, 1)
    assert not look(crew, item, 2)
    assert look(crew, item, 0)
    crew.judge(2)
    assert look(crew, item, 3)
    back = crew.undo(2)
    assert back is not None
    assert not ratings.may_view(item, crew.raters[2].id)  # what was taken back is no answer, and one is wanted again
    ratings.release(back.id, crew.raters[2].id)
    assert crew.claim(3) is None  # there is a place, and it is not for him
    assert crew.claim(2) is not None
    assert ratings.check() == ()


def test_an_answer_stands_once_its_giver_has_looked(ratings: Ratings) -> None:
    crew = team(ratings, items=2, raters=2, overlap=2)
    item = crew.judge(0).item
    assert look(crew, item, 0)
    with pytest.raises(DataError, match="seen what others answered"):
        crew.undo(0)
    assert look(crew, item, 0)
    assert crew.judge(0).item != item
    assert crew.undo(0) is not None  # the later answer, at which nobody looked
    assert ratings.check() == ()


def test_who_holds_the_item_does_not_look(ratings: Ratings) -> None:
    crew = team(ratings, items=1, raters=2, overlap=2)
    item = crew.judge(0).item
    crew.sure(1)
    assert not look(crew, item, 1)


def test_what_is_asked_of_everyone_is_looked_at_after_an_answer(ratings: Ratings) -> None:
    crew = team(ratings, items=0, raters=3, extra=(pair("gold", gold=((0,), (1,)), is_qualification=True),))
    item = next(iter(ratings.items(crew.project.id))).id
    assert not look(crew, item, 0)
    crew.judge(0)
    assert look(crew, item, 0)
    assert not look(crew, item, 1)
    assert crew.claim(1) is not None

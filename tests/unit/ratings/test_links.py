"""Links that work once, invitations that end, and leaving a project."""

import threading

import pytest

from palate.core import DataError
from palate.ratings import Link, Ratings, open_ratings
from tests.support.ratings import team
from tests.support.waiting import LIMIT_SECONDS, joined


def test_a_link_works_once_for_its_use_until_it_expires(ratings: Ratings) -> None:
    one = ratings.add_account("one", "rater", 1.0)
    link = Link("password", one.id, 50.0)
    ratings.issue_link("hash", link, 1.0)
    assert ratings.find_link("hash", "password", 49.0) == link
    assert ratings.find_link("hash", "setup", 49.0) is None
    assert ratings.find_link("hash", "password", 50.0) is None
    assert ratings.redeem_link("hash", "setup", 49.0) is None
    assert ratings.redeem_link("hash", "password", 50.0) is None
    assert ratings.redeem_link("hash", "password", 49.0) == link
    assert ratings.redeem_link("hash", "password", 49.0) is None
    with pytest.raises(DataError, match="no account"):
        ratings.issue_link("other", Link("password", "x", 50.0), 1.0)


def test_a_new_link_a_new_password_and_erasure_end_the_old_links(ratings: Ratings) -> None:
    one, two = (ratings.add_account(name, "rater", 1.0) for name in ("one", "two"))
    for token, account in (("a", one), ("b", two), ("c", one)):
        ratings.issue_link(token, Link("password", account.id, 50.0), 1.0)
    assert [ratings.find_link(token, "password", 2.0) is None for token in "abc"] == [True, False, False]
    ratings.set_password(one.id, "new")
    assert ratings.find_link("c", "password", 2.0) is None
    ratings.erase(two.id, 3.0)
    assert ratings.find_link("b", "password", 2.0) is None


def test_of_many_setup_links_one_makes_an_owner(ratings: Ratings) -> None:
    """Each server process prints one; many open theirs at once."""
    for number in range(6):
        ratings.issue_link(f"link {number}", Link("setup", None, 50.0), 1.0)
    taken: list[Link | None] = []
    ready = threading.Barrier(6)

    def take(number: int) -> None:
        ready.wait(LIMIT_SECONDS)
        taken.append(ratings.redeem_link(f"link {number}", "setup", 2.0))

    threads = [threading.Thread(target=take, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    joined(*threads)
    assert len(taken) == 6
    assert [one for one in taken if one is not None] == [Link("setup", None, 50.0)]


def test_another_process_knows_the_links(url: str) -> None:
    first, second = open_ratings(url, create=True), open_ratings(url)
    first.issue_link("hash", Link("setup", None, 50.0), 1.0)
    first.close()
    assert second.redeem_link("hash", "setup", 2.0) is not None
    second.close()


def test_invitations_end_at_once(ratings: Ratings) -> None:
    crew = team(ratings)
    for token, expires, uses in (("a", 100.0, 3), ("b", 5.0, 3), ("c", 100.0, 1)):
        ratings.invite(crew.project.id, "rater", token, expires=expires, uses=uses)
    assert ratings.open_invitations(crew.project.id, 6.0) == 2
    assert ratings.end_invitations(crew.project.id, 6.0) == 2
    assert ratings.open_invitations(crew.project.id, 6.0) == 0
    assert [ratings.redeem(token, 6.0, crew.raters[0]) for token in "ac"] == [None, None]


def test_whoever_leaves_gives_back_what_he_held_and_keeps_what_he_said(ratings: Ratings) -> None:
    crew = team(ratings, items=2)
    gone = crew.raters[0]
    crew.judge(0)
    held = crew.sure(0)
    assert crew.claim(1) is None  # one judgment an item: both are taken
    assert ratings.leave(crew.project.id, gone.id) == 1
    assert ratings.leave(crew.project.id, gone.id) is None
    assert gone.id not in [account.id for account in ratings.accounts(crew.project.id)]
    assert ratings.assignment(held.id).state == "released"
    assert crew.sure(1).item == held.item
    with pytest.raises(DataError, match="join first"):
        crew.claim(0)
    assert len(list(ratings.judgments(crew.project.id))) == 1
    assert ratings.check() == ()

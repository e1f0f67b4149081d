"""Accounts, invitations, sessions, failed logins, the audit log; a person's copy and erasure."""

import json
import threading
from dataclasses import replace

import pytest

from palate.core import ConfigError, DataError
from palate.ratings import FailedLogins, Ratings
from tests.support.ratings import team
from tests.support.waiting import joined


def test_names_are_unique_whatever_their_capitals(ratings: Ratings) -> None:
    made = ratings.add_account(" Zoë ", "owner", 5.0, password_hash="$argon2id$x")
    assert made.name == "Zoë"
    assert ratings.account_by_name("ZOË") == made == ratings.account(made.id)
    assert ratings.account_by_name("zoe") is None
    assert ratings.password_hash(made.id) == "$argon2id$x"
    for name in ("zoë", "Zoe\u0308"):
        with pytest.raises(ConfigError, match="already"):
            ratings.add_account(name, "rater", 6.0)
    for name in ("", " ", "a\x00b", "a\nb", "x" * 201, "\ud800"):
        with pytest.raises(ConfigError, match="1 to 200"):
            ratings.add_account(name, "rater", 6.0)


def test_pseudonyms_say_nothing_about_the_name(ratings: Ratings) -> None:
    made = [ratings.add_account(name, "rater", 1.0, kind="model") for name in ("a", "b", "c")]
    assert len({account.pseudonym for account in made}) == 3
    assert [account.kind for account in ratings.accounts()] == ["model"] * 3


def test_roles_and_memberships(ratings: Ratings) -> None:
    crew = team(ratings)
    outside = ratings.add_account("outside", "rater", 9.0)
    ratings.set_role(outside.id, "reviewer")
    assert ratings.account(outside.id).role == "reviewer"
    assert [account.id for account in ratings.accounts(crew.project.id)] == [rater.id for rater in crew.raters]
    ratings.join(crew.project.id, outside.id, 10.0)
    ratings.join(crew.project.id, outside.id, 11.0)
    assert [account.id for account in ratings.accounts(crew.project.id)][-1] == outside.id
    for call in (
        lambda: ratings.account("x"),
        lambda: ratings.set_role("x", "rater"),
        lambda: ratings.join(crew.project.id, "x", 1.0),
        lambda: ratings.join("x", outside.id, 1.0),
        lambda: ratings.qualify("x", outside.id, 1.0),
    ):
        with pytest.raises(DataError):
            call()


def test_an_invitation_is_used_up_by_as_many_as_it_was_made_for(ratings: Ratings) -> None:
    crew = team(ratings)
    ratings.invite(crew.project.id, "reviewer", "hash", expires=100.0, uses=3)
    found = []
    people = [ratings.add_account(f"person {n}", "rater", 1.0) for n in range(8)]
    threads = [threading.Thread(target=lambda one=one: found.append(ratings.redeem("hash", 99.0, one))) for one in people]
    for thread in threads:
        thread.start()
    joined(*threads)
    assert [(given[0].project, given[0].role) for given in found if given] == [(crew.project.id, "reviewer")] * 3
    assert ratings.reviewers(crew.project.id) == {given[1].id for given in found if given}
    ratings.invite(crew.project.id, "rater", "late", expires=100.0, uses=1)
    assert ratings.invitation("late", 99.0) is not None
    assert ratings.invitation("late", 100.0) is None
    assert ratings.redeem("late", 100.0, people[0]) is None
    assert ratings.redeem("unknown", 1.0, people[0]) is None
    with pytest.raises(ConfigError, match="taken"):
        ratings.invite(crew.project.id, "rater", "late", expires=100.0, uses=1)
    with pytest.raises(ConfigError, match="1 use"):
        ratings.invite(crew.project.id, "rater", "none", expires=100.0, uses=0)


def test_of_two_who_take_one_name_at_once_only_one_spends_the_invitation(ratings: Ratings) -> None:
    crew = team(ratings)
    ratings.invite(crew.project.id, "rater", "hash", expires=100.0, uses=5)
    asked = replace(crew.raters[0], id="", name="Bob")
    found, refused = [], []

    def enter() -> None:
        try:
            found.append(ratings.redeem("hash", 9.0, asked, "password"))
        except ConfigError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=enter) for _ in range(6)]
    for thread in threads:
        thread.start()
    joined(*threads)
    assert (len(found), len(refused)) == (1, 5)
    others = [ratings.redeem("hash", 9.0, replace(asked, name=f"bob {n}")) for n in range(5)]
    assert [one is None for one in others] == [False] * 4 + [True]


def test_sessions_end_by_time_by_hand_and_with_a_new_password(ratings: Ratings) -> None:
    one, two = (ratings.add_account(name, "rater", 1.0) for name in ("one", "two"))
    for account, token in ((one, "a"), (one, "b"), (two, "c"), (two, "d")):
        ratings.start_session(account.id, token, f"csrf {token}", 10.0, 50.0)
    found = ratings.session("a", 49.0)
    assert found is not None
    assert (found.account.id, found.csrf, found.expires) == (one.id, "csrf a", 50.0)
    assert ratings.session("a", 50.0) is None
    ratings.end_session("a")
    assert [ratings.session(token, 20.0) is None for token in "abcd"] == [True, False, False, False]
    ratings.set_password(one.id, "new")
    assert ratings.session("b", 20.0) is None
    assert ratings.end_sessions(two.id) == 2
    assert [ratings.session(token, 20.0) for token in "cd"] == [None, None]


def test_failed_logins_are_counted_by_name_and_address(ratings: Ratings) -> None:
    for name, address, now in (("Ann", "1.1.1.1", 10.0), ("ann ", "2.2.2.2", 20.0), ("bob\x00\ud800", "1.1.1.1", 30.0)):
        ratings.record_failed_login(name, address, now)
    assert ratings.failed_logins("ANN", "1.1.1.1", 0.0) == FailedLogins(2, 2, 1)
    assert ratings.failed_logins("ann", "1.1.1.1", 15.0) == FailedLogins(1, 1, 0)
    ratings.forget_failed_logins("ann")
    assert ratings.failed_logins("ann", "1.1.1.1", 0.0) == FailedLogins(0, 1, 0)
    ratings.record_failed_login("cy", "3.3.3.3", 30.0 * 24 * 3600)
    assert ratings.failed_logins("x", "1.1.1.1", 0.0) == FailedLogins(0, 0, 0)


def test_the_audit_log_is_read_newest_first_in_pages(ratings: Ratings) -> None:
    for number in range(5):
        ratings.audit("boss" if number % 2 else "", "did", f"thing {number}", float(number), {"n": number})
    newest = ratings.audit_log(limit=2)
    assert [entry.subject for entry in newest] == ["thing 4", "thing 3"]
    assert [entry.subject for entry in ratings.audit_log(before=newest[-1].number)] == ["thing 2", "thing 1", "thing 0"]
    assert [entry.detail for entry in ratings.audit_log(actor="boss")] == [{"n": 3}, {"n": 1}]


def test_a_person_gets_all_that_is_known_but_no_keys(ratings: Ratings) -> None:
    crew = team(ratings)
    person = crew.raters[0]
    ratings.set_password(person.id, "the hash")
    ratings.start_session(person.id, "the token", "the csrf", 1.0, 2.0)
    crew.judge()
    crew.judge(1)
    ratings.audit(person.id, "judged", crew.project.id, 1.0)
    copy = ratings.export_person(person.id)
    text = json.dumps(copy)
    assert (len(copy["judgments"]), len(copy["assignments"]), len(copy["sessions"]), len(copy["audit_log"])) == (1, 1, 1, 1)
    assert copy["account"]["name"] == "rater 0"
    assert crew.raters[1].id not in text
    assert not any(secret in text for secret in ("the hash", "the token", "the csrf"))


def test_an_erased_person_is_gone_and_the_answers_stay(ratings: Ratings) -> None:
    crew = team(ratings, items=3)
    person = crew.raters[0]
    ratings.start_session(person.id, "t", "c", 1.0, 1e9)
    ratings.record_failed_login(person.name, "1.1.1.1", 5.0)
    crew.judge()
    held = crew.sure()
    ratings.erase(person.id, 50.0)
    gone = ratings.account(person.id)
    assert (gone.name, gone.pseudonym, ratings.password_hash(person.id)) == ("", person.pseudonym, None)
    assert ratings.account_by_name(person.name) is None
    assert person.id not in [account.id for account in ratings.accounts()]
    assert ratings.session("t", 2.0) is None
    assert ratings.failed_logins(person.name, "x", 0.0).name == 0
    assert [entry.pseudonym for entry in ratings.judgments(crew.project.id)] == [person.pseudonym]
    assert crew.submit(held).status == "surplus"
    assert ratings.check() == ()
    ratings.add_account(person.name, "rater", 60.0)
    with ratings.database.read() as connection:
        names = connection.exec_driver_sql("SELECT count(*) FROM accounts WHERE name = 'rater 0'").scalar_one()
    assert names == 1

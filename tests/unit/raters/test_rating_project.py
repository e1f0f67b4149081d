"""A project of a rating server that a run uses while it trains: over HTTP from a server that truly runs, and in its database."""

import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from palate.agreement.judged_sample import KNOWN, RANDOM, TARGETED
from palate.core import Comparison, Completion, ConfigError, Message, Prompt
from palate.data.exclusions import Exclusion, Exclusions, excluding
from palate.raters.asked_pairs import AskedPair, AskedPairs, holdable, num_of_others, verdicts_of
from palate.raters.rating_project import ProjectUnavailable, RatingProject, rating_project
from palate.ratings import Answer, Project, Ratings, Task
from palate.web.credentials import hashed
from tests.support.rating_server import RatingServer, open_rating_server

KEY = "PALATE_TEST_PEOPLE_KEY"


def owner_key(server: RatingServer, role: str = "owner") -> str:
    """A key for the API, as the page My data makes one."""
    account, key, now = server.account(f"{role} {secrets.token_hex(3)}", role), secrets.token_urlsafe(24), server.clock()
    server.ratings.start_session(account.id, hashed(key, "key"), secrets.token_urlsafe(16), now, now + 3600)
    return key


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RatingServer]:
    with open_rating_server(tmp_path) as opened:
        monkeypatch.setenv(KEY, owner_key(opened))
        opened.ratings.add_project(Project("taste"), opened.clock())
        yield opened


@pytest.fixture(params=["http", "database"])
def project(server: RatingServer, tmp_path: Path, request: pytest.FixtureRequest) -> RatingProject:
    """The project, in both ways."""
    return rating_project(server.url if request.param == "http" else str(tmp_path / "ratings.db"), "taste", KEY, 20)


def pair(number: int, own: str, start: str, choice: int = RANDOM, iteration: int = 2) -> AskedPair:
    sides = (Completion(own, policy=f"iteration {iteration}"), Completion(start, policy="start"))
    return AskedPair(
        Comparison(str(number), Prompt(str(number), (Message("user", f"cook {number}"),)), sides),
        choice,
        0.25,
        0.6,
        {},
        None if own else 0.0,
    )


def batch(iteration: int = 2) -> AskedPairs:
    return AskedPairs(
        iteration,
        (
            pair(0, f"much rice {iteration}", "rice", RANDOM, iteration),
            pair(1, "beans", f"much beans {iteration}", TARGETED, iteration),
            pair(2, "", "salt", KNOWN, iteration),
        ),
    )


def judge(ratings: Ratings, count: int = 9, name: str = "ann") -> int:
    """Let a rater who likes the longer answer judge; return how many answers there were."""
    account = ratings.account_by_name(name) or ratings.add_account(name, "rater", time.time())
    project = ratings.projects()[0]
    ratings.join(project.id, account.id, time.time())
    for k in range(count):
        begun = time.time() + 2.0 * k
        held = ratings.claim(project.id, account.id, begun, Random(k))
        if held is None:
            return k
        shown = [ratings.item(held.item).candidates[place].text for place in held.order]
        tiers = ((0,), (1,)) if len(shown[0]) > len(shown[1]) else ((1,), (0,))
        ratings.submit(held.id, account.id, Answer(tiers, seconds=2.0), f"{name}-{k}-{held.id}", begun + 2.0)
    return count


def test_pairs_go_there_and_verdicts_come_back(project: RatingProject, server: RatingServer) -> None:
    project.check()
    sent = batch()
    project.add(sent.items())
    held = project.read()
    assert [item.candidates[0].policy for item in held.items] == ["iteration 2", "iteration 2"]
    assert [item.selection_probability for item in held.items] == [0.25, 0.25]
    verdicts = verdicts_of(held)
    assert sent.sample(verdicts).answered.tolist() == [False, False, True]
    assert sent.unsettled(held, verdicts) == 2
    judge(server.ratings)
    held = project.read()
    verdicts = verdicts_of(held)
    # The policy wrote the longer answer to the first prompt, the start to the second, and nothing loses to something.
    assert sent.sample(verdicts).verdicts.tolist() == [1.0, 0.0, 0.0]
    assert sent.unsettled(held, verdicts) == 0
    assert num_of_others(verdicts, [sent]) == 0


def test_what_is_there_is_not_added_again_even_the_other_way_round(project: RatingProject, server: RatingServer) -> None:
    project.add(batch().items())
    before = project.read()
    project.add(batch().items())
    turned = AskedPairs(2, (pair(0, "rice", "much rice 2"),))
    project.add(turned.items())
    again = project.read()
    assert [item.id for item in again.items] == [item.id for item in before.items] == [item.id for item in batch().items()]
    judge(server.ratings)
    assert turned.sample(verdicts_of(project.read())).verdicts.tolist() == [0.0]


def test_verdicts_about_other_items_are_counted_and_change_nothing(project: RatingProject, server: RatingServer) -> None:
    project.add([*batch().items(), pair(7, "someone else's", "question").item()])
    judge(server.ratings)
    verdicts = verdicts_of(project.read())
    assert num_of_others(verdicts, [batch()]) == 1
    assert batch().sample(verdicts).verdicts.tolist() == [1.0, 0.0, 0.0]


def test_pairs_that_are_taken_back_are_not_waited_for(project: RatingProject, server: RatingServer) -> None:
    project.add(batch().items())
    server.ratings.remove_item(batch().items()[0].id, server.clock())
    held = project.read()
    assert batch().unsettled(held, verdicts_of(held)) == 1


def test_a_project_that_is_not_there_or_asks_something_else_is_named(server: RatingServer, tmp_path: Path) -> None:
    server.ratings.add_project(Project("rules", Task("rule", rules=("no salt",))), server.clock())
    for url in (server.url, str(tmp_path / "ratings.db")):
        with pytest.raises(ConfigError, match="no project 'tasty'.*taste"):
            rating_project(url, "tasty", KEY, 20).check()
        with pytest.raises(ConfigError, match="rules has the task rule"):
            rating_project(url, "rules", KEY, 20).check()
        missing = rating_project(url, "tasty", KEY, 20)
        with pytest.raises(ProjectUnavailable, match="no project 'tasty'"):
            missing.add(batch().items())
        with pytest.raises(ProjectUnavailable, match="no project 'tasty'"):
            missing.read()
    assert [project.name for project in server.ratings.projects()] == ["taste", "rules"]


def test_keys_that_are_refused_are_named(server: RatingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "wrong")
    with pytest.raises(ConfigError, match="refuses the key.*My data"):
        rating_project(server.url, "taste", KEY, 20).check()
    monkeypatch.delenv(KEY)
    with pytest.raises(ConfigError, match=f"{KEY} holds no key"):
        rating_project(server.url, "taste", KEY, 20)
    monkeypatch.setenv(KEY, owner_key(server, "rater"))
    with pytest.raises(ConfigError, match="no project 'taste'"):
        rating_project(server.url, "taste", KEY, 20).check()


def test_a_server_that_is_away_is_unavailable(server: RatingServer, tmp_path: Path) -> None:
    away = rating_project("http://127.0.0.1:9", "taste", None, 0.3)
    for ask in (away.check, away.read, lambda: away.add(batch().items())):
        with pytest.raises(ProjectUnavailable, match="127.0.0.1:9"):
            ask()
    with pytest.raises(ConfigError, match="people.url.*404.*palate label"):
        rating_project(f"{server.url}/elsewhere", "taste", KEY, 20).check()
    with pytest.raises(ConfigError, match="does not exist"):
        rating_project(str(tmp_path / "none.db"), "taste", None, 1).check()
    with pytest.raises(ProjectUnavailable, match="does not exist"):
        rating_project(str(tmp_path / "none.db"), "taste", None, 1).read()


def test_raters_who_are_left_out_do_not_count(project: RatingProject, server: RatingServer) -> None:
    project.add(batch().items())
    judge(server.ratings)
    held = project.read()
    with excluding(Exclusions((Exclusion("rater", held.raters[0].id),))):
        assert verdicts_of(held) == {}


def test_pairs_on_disk_are_those_that_were_written(tmp_path: Path) -> None:
    for iteration in (4, 2):
        batch(iteration).write(tmp_path)
    assert AskedPairs.read_all(tmp_path, 3) == [batch(2)]
    assert AskedPairs.read_all(tmp_path, 4) == [batch(2), batch(4)]


def test_texts_that_no_database_can_hold_are_mended() -> None:
    assert holdable("a\0b\ud800c") == "a\ufffdb?c"

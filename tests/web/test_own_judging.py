"""`palate judge` on this machine: no password, one project, and a last page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from palate.core import ConfigError, Message
from palate.evaluation.own_agreement import OwnJudgment, OwnJudgments
from palate.evaluation.report.judged_page import render_judged
from palate.ratings import Candidate, Item, Project, Ratings, open_ratings
from palate.web.credentials import hashed
from palate.web.judge_demo import PERSON, PROJECT, JudgedPipeline, own_project, serving
from palate.web.listener import listen
from palate.web.own_machine import OwnJudging, is_own_address, is_own_name
from tests.support.waiting import LIMIT_SECONDS

KITCHEN = JudgedPipeline(Path(), Path(), Path(), "helpful", "palate.kitchen:judge")


@dataclass
class OwnServer:
    """A server for one person, its first address, and what it serves."""

    address: str
    ratings: Ratings
    own: OwnJudging

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.address.partition("/judge/")[0], timeout=LIMIT_SECONDS)


@pytest.fixture
def judging(tmp_path: Path) -> Iterator[OwnServer]:
    with listen("127.0.0.1", 0) as listener, closing(open_ratings(str(tmp_path / "ratings.db"), create=True)) as ratings:
        account, project = own_project(ratings, KITCHEN)
        rows = [Item((Message("user", f"guest {n}"),), (Candidate(f"rice {n}"), Candidate(f"salt {n}"))) for n in range(2)]
        ratings.add_items(project.id, rows, time.time())
        own = OwnJudging("a-secret-key", account.id, project.id, tmp_path / "judged.html")
        with serving(listener, ratings, own) as address:
            yield OwnServer(address, ratings, own)


def test_only_the_link_and_only_this_machine_let_somebody_in(judging: OwnServer) -> None:
    rate = f"/projects/{judging.own.project}/rate"
    elsewhere = judging.ratings.add_project(Project("Of others"), time.time())
    path = f"/judge/{judging.own.key}"
    with judging.client() as person:
        assert "printed" in person.get(rate, follow_redirects=True).text
        assert person.get(f"/judge/{judging.own.key[:-1]}").status_code == 404
        assert person.post("/judge/caf%C3%A9").status_code == 404
        assert person.get("/", headers={"Host": "evil.example"}).status_code == 403
        assert person.post(path, headers={"Host": "evil.example"}).status_code == 403
        assert person.post(path, headers={"Origin": "http://evil.example"}).status_code == 403
        assert not person.cookies
        assert not judging.own.begun.is_set()
        assert person.post(path).headers["location"] == rate
        assert judging.own.begun.is_set()
        assert person.get(rate).status_code == 200
        assert person.get(f"/projects/{elsewhere.id}/rate").status_code == 404
        assert [person.get(path).status_code for path in ("/accounts", "/audit", "/projects/new")] == [403] * 3
        judging.ratings.end_sessions(judging.own.account)
        assert person.get("/judged").status_code == 303


def test_the_sign_in_ends_with_the_server(tmp_path: Path) -> None:
    with closing(open_ratings(str(tmp_path / "ratings.db"), create=True)) as ratings:
        account, project = own_project(ratings, KITCHEN)
        own = OwnJudging("a-secret-key", account.id, project.id, tmp_path / "judged.html")
        with listen("127.0.0.1", 0) as listener, serving(listener, ratings, own) as address:
            answer = httpx.post(address, timeout=LIMIT_SECONDS)
            token = next(value for name, value in answer.cookies.items() if not name.endswith("-known"))
            assert ratings.session(hashed(token, "cookie"), time.time()) is not None
        assert ratings.session(hashed(token, "cookie"), time.time()) is None


def test_names_and_addresses_of_this_machine() -> None:
    assert [is_own_name(host) for host in ("127.0.0.1:80", "localhost", "[::1]:8080")] == [True] * 3
    assert [is_own_name(host) for host in ("", "evil.example", "127.0.0.1.evil.example", "evil.example:80#localhost", "[")] == [False] * 5
    assert [is_own_address(one) for one in (("127.0.0.1", 1), ("::1", 1))] == [True] * 2
    assert [is_own_address(one) for one in (("192.168.0.7", 1), ("testclient", 1), None)] == [False] * 3


def test_a_person_judges_and_sees_what_it_moved(judging: OwnServer, visit: Callable[..., Page]) -> None:
    page = visit(judging.address, viewport={"width": 400, "height": 800}, color_scheme="dark")
    expect(page.get_by_role("heading", name="The kitchen")).to_be_visible()
    expect(page.locator("main")).to_contain_text("Compare 2 pairs")
    assert page.locator("input[type=password]").count() == 0
    page.get_by_role("button", name="Begin").click()
    expect(page.locator("#pace")).to_have_text("1 of 2")
    expect(page.locator("#flag")).to_be_hidden()
    for key, pace in (("1", "2 of 2"), ("2", "")):
        page.keyboard.press("f")  # nobody is there who could look at it
        expect(page.locator("#flagdialog")).to_be_hidden()
        page.keyboard.press(key)
        page.keyboard.press("Enter")
        if pace:
            expect(page.locator("#pace")).to_have_text(pace)
    expect(page.get_by_role("heading", name="The reward model learns from your answers")).to_be_visible()
    assert not judging.own.delivered.is_set()
    judged = OwnJudgments("helpful", (OwnJudgment("guest 0", "rice", "salt", 1.0, truth=True, before=0.25, after=0.5),))
    judging.own.result.write_text(render_judged(judged, [("this page", "judged.html")]))
    expect(page.get_by_role("heading", name="You agree with the truth on 1 of 1 pairs")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("getComputedStyle(document.querySelector('.tiles')).display") == "grid"  # its own style holds
    assert judging.own.delivered.wait(LIMIT_SECONDS)


def test_nobody_enters_without_a_password_what_another_made(tmp_path: Path) -> None:
    def of(name: str) -> Ratings:
        return open_ratings(str(tmp_path / f"{name}.db"), create=True)

    with closing(of("again")) as ratings:
        assert own_project(ratings, KITCHEN) == own_project(ratings, KITCHEN)
    with closing(of("project")) as ratings:
        ratings.add_project(Project(PROJECT), 1.0)
        with pytest.raises(ConfigError, match="did not make"):
            own_project(ratings, KITCHEN)
    with closing(of("password")) as ratings:
        account, _ = own_project(ratings, KITCHEN)
        ratings.set_password(account.id, "hash")
        with pytest.raises(ConfigError, match="did not make"):
            own_project(ratings, KITCHEN)
    with closing(of("owner")) as ratings:
        ratings.add_account(PERSON, "owner", 1.0)
        with pytest.raises(ConfigError, match="did not make"):
            own_project(ratings, KITCHEN)
    with closing(of("more")) as ratings:
        account, _ = own_project(ratings, KITCHEN)
        ratings.join(ratings.add_project(Project("Of others"), 1.0).id, account.id, 1.0)
        with pytest.raises(ConfigError, match="did not make"):
            own_project(ratings, KITCHEN)

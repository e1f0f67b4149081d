"""Every route has a rule, and the rule holds for every role, for strangers, and for objects of others."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from fastapi.routing import APIRoute
from PIL import Image
from starlette.routing import Route

from palate.core import DataError, Message
from palate.ratings import Answer, Candidate, Item, Link, Project, Task
from palate.web.admission import rule_of
from palate.web.app import create_app, is_static
from palate.web.credentials import hashed
from palate.web.service import DAY, WebSettings
from tests.support.rating_server import PASSWORD, Client, RatingServer, open_rating_server
from tests.support.waiting import LIMIT_SECONDS
from tests.web.conftest import both


def routes(server: RatingServer) -> list[APIRoute]:
    app = create_app(server.service)
    found = [route for route in app.routes if isinstance(route, APIRoute)]
    assert len(found) > 40
    return found


def test_every_route_has_one_rule(server: RatingServer) -> None:
    app = create_app(server.service)
    bare = [route for route in app.routes if not is_static(route) and rule_of(route) is None]
    assert bare == []
    assert len(app.routes) > 40
    assert not any(isinstance(route, Route) and not isinstance(route, APIRoute) for route in app.routes)


def test_a_route_without_a_rule_is_found(server: RatingServer) -> None:
    app = create_app(server.service)

    @app.get("/secret")
    def secret() -> str:
        return ""

    assert [route.path for route in app.routes if not is_static(route) and rule_of(route) is None] == ["/secret"]


ROLES = ("nobody", "rater", "rater elsewhere", "reviewer", "reviewer elsewhere", "owner")
"""`elsewhere`: of another project. The assignment in a path is the rater's."""

S, Y, N, H, G = "signin", "yes", "role", "hidden", "gone"
OPEN, SIGNED, CLOSED = (Y, Y, Y, Y, Y, Y), (S, Y, Y, Y, Y, Y), (G, G, G, G, G, G)
MEMBER, STAFF, MINE = (S, Y, H, Y, H, Y), (S, N, H, Y, H, Y), (S, Y, H, H, H, H)
OWNER, OWNER_HERE = (S, N, N, N, N, Y), (S, N, H, N, H, Y)
TABLE: dict[str, tuple[str, ...]] = {
    "GET /": SIGNED,
    "GET /signin": OPEN,
    "POST /signin": OPEN,
    "POST /signout": SIGNED,
    "GET /setup/{token}": CLOSED,  # there is an owner
    "POST /setup/{token}": CLOSED,
    "GET /invitations/{token}": OPEN,
    "POST /invitations/{token}": OPEN,
    "GET /passwords/{token}": OPEN,
    "POST /passwords/{token}": OPEN,
    "GET /projects/new": OWNER,
    "POST /projects": OWNER,
    "GET /projects/{project}": MEMBER,
    "POST /projects/{project}/guideline": OWNER_HERE,
    "POST /projects/{project}/items": OWNER_HERE,
    "GET /projects/{project}/export": OWNER_HERE,
    "GET /projects/{project}/rate": MEMBER,
    "GET /projects/{project}/assignments/{assignment}/media/{place}": MINE,
    "GET /projects/{project}/items/{item}/media/{number}": STAFF,
    "GET /projects/{project}/people": STAFF,
    "POST /projects/{project}/invitations": OWNER_HERE,
    "POST /projects/{project}/invitations/end": OWNER_HERE,
    "POST /projects/{project}/people/{account}/remove": OWNER_HERE,
    "POST /projects/{project}/items/{item}/remove": OWNER_HERE,
    "GET /projects/{project}/review": STAFF,
    "GET /projects/{project}/review/{item}": STAFF,
    "POST /projects/{project}/review/{item}": STAFF,
    "POST /projects/{project}/review/{item}/look": STAFF,
    "GET /accounts": OWNER,
    "POST /accounts/{account}/role": OWNER,
    "POST /accounts/{account}/signout": OWNER,
    "POST /accounts/{account}/newpassword": OWNER,
    "GET /audit": OWNER,
    "GET /me": SIGNED,
    "POST /me/password": SIGNED,
    "POST /me/signout": SIGNED,
    "POST /me/token": SIGNED,
    "POST /me/export": SIGNED,
    "POST /me/erase": SIGNED,
    "GET /api/docs": SIGNED,
    "GET /api/openapi.json": OPEN,
    "GET /api/session": SIGNED,
    "GET /api/projects": SIGNED,
    "POST /api/projects": OWNER,
    "GET /api/projects/{project}": MEMBER,
    "POST /api/projects/{project}/guideline": OWNER_HERE,
    "POST /api/projects/{project}/items": OWNER_HERE,
    "DELETE /api/projects/{project}/items/{item}": OWNER_HERE,
    "GET /api/projects/{project}/members": STAFF,
    "DELETE /api/projects/{project}/members/{account}": OWNER_HERE,
    "POST /api/projects/{project}/scores": OWNER_HERE,
    "POST /api/projects/{project}/assignments": MEMBER,
    "POST /api/projects/{project}/assignments/{assignment}/release": MINE,
    "POST /api/projects/{project}/assignments/{assignment}/probe": MINE,
    "POST /api/projects/{project}/judgments": MEMBER,
    "POST /api/projects/{project}/undo": MEMBER,
    "GET /api/projects/{project}/judgments": OWNER_HERE,
    "GET /api/projects/{project}/progress": MEMBER,
    "GET /api/projects/{project}/agreement": STAFF,
}


@dataclass
class Street:
    """A server with somebody in every role, and what stands for the names in a path."""

    server: RatingServer
    folder: Path
    project: Project
    other: Project
    values: dict[str, str]
    http: httpx.Client

    def again(self) -> None:
        """What an earlier request took away is there again, and the links are new."""
        ratings, now = self.server.ratings, self.server.clock()
        for name in ("rater elsewhere", "reviewer elsewhere"):  # who came by an invitation
            ratings.leave(self.project.id, self.server.accounts[name].id)
        ratings.join(self.project.id, self.values["account"], now)
        token = self.server.service.token()
        ratings.invite(self.project.id, "rater", hashed(token, "invitation"), now + DAY, 1)
        ratings.issue_link(hashed(token, "password"), Link("password", self.values["account"], now + DAY), now)
        self.values["token"] = token

    def ask(self, method: str, path: str, who: str, headers: dict[str, str] | None = None) -> httpx.Response:
        """The answer to a request with a session of its own, so that none ends another's."""
        sent = {}
        if who != "nobody":
            cookie = self.server.cookie(who)
            session = self.server.ratings.session(hashed(cookie, "cookie"), self.server.clock())
            assert session is not None
            sent = {"Cookie": f"{self.server.cookie_name}={cookie}", "X-CSRF-Token": session.csrf}
        self.http.cookies.clear()
        answer = self.http.request(method, path.format(**self.values), headers={**sent, **(headers or {})})
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        return answer

    def content(self) -> dict[str, list[tuple[object, ...]]]:
        """All that the database holds, but for sessions and what tries to sign in leave behind."""
        with closing(sqlite3.connect(self.folder / "ratings.db")) as plain:
            tables = [name for (name,) in plain.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            kept = ["sqlite_master", *(name for name in tables if name not in {"sessions", "failed_logins", "sqlite_sequence"})]
            return {name: plain.execute(f'SELECT * FROM "{name}"').fetchall() for name in kept}


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "media").mkdir()
    Image.new("RGB", (4, 4)).save(folder / "media" / "a.png")
    with (
        open_rating_server(folder, WebSettings(media=folder / "media")) as server,
        httpx.Client(base_url=server.url, timeout=LIMIT_SECONDS) as http,
    ):
        project, other = server.project("Ours", items=0), server.project("Theirs")
        picture = Candidate("text", "a.png")
        asked = [Item((Message("user", f"question {n}"),), (picture, Candidate("other", "a.png"))) for n in range(60)]
        server.ratings.add_items(project.id, asked, server.clock())
        for name in ROLES[1:]:
            server.account(name, name.split()[0], other if "elsewhere" in name else project)
        server.ratings.join(
            other.id, server.accounts["rater"].id, server.clock()
        )  # so that only the path is wrong where projects are crossed
        victim = server.account("victim", "rater", project)
        held = server.ratings.claim(project.id, server.accounts["rater"].id, server.clock(), server.service.random)
        assert held is not None
        values = {"project": project.id, "assignment": held.id, "item": held.item, "account": victim.id}
        yield Street(server, folder, project, other, {**values, "token": "", "place": "0", "number": "0"}, http)


def named(server: RatingServer) -> dict[str, APIRoute]:
    return {f"{method} {route.path}": route for route in routes(server) for method in route.methods}


def outcome(answer: httpx.Response) -> str:
    """What became of a request, in the words of the table. A form that is not filled in rightly (422) was let in."""
    if answer.status_code == 404:
        return G if "This link was used already" in answer.text else H
    if answer.status_code == 403:
        return N
    is_sent = answer.status_code == 303 and answer.headers["location"].startswith("/signin")
    is_asked = answer.status_code == 401 and '"signin"' in answer.text
    return S if (is_sent and answer.request.url.path not in {"/signout", "/me/signout"}) or is_asked else Y


def test_the_table_names_every_route_and_no_other(street: Street) -> None:
    assert set(TABLE) == set(named(street.server))


@pytest.mark.parametrize("name", TABLE)
def test_access_by_route_and_role(street: Street, name: str) -> None:
    """Who may do what is what stands in the table; nothing breaks, whoever asks."""
    method, path = name.split(" ")
    found, broken = [], []
    for who in ROLES:
        street.again()
        answer = street.ask(method, path, who)
        found.append(outcome(answer) if who != "nobody" or path not in {"/signout", "/me/signout"} else S)
        broken += [(who, answer.status_code)] if answer.status_code >= 500 else []
    assert tuple(found) == TABLE[name]
    assert broken == []


@pytest.mark.parametrize("name", [name for name in TABLE if "{project}" in name and ("{item}" in name or "{assignment}" in name)])
def test_objects_are_reached_by_way_of_their_own_project_only(street: Street, name: str) -> None:
    method, path = name.split(" ")
    crossed = path.replace("{project}", street.other.id)
    found = [outcome(street.ask(method, crossed, who)) for who in ("rater", "reviewer elsewhere", "owner")]
    assert set(found[:2]) <= {H, N}
    assert found[2] == H


SECRET_IN_THE_REQUEST = {"POST /signin", "POST /setup/{token}", "POST /passwords/{token}"}
"""Routes that need no token of a session: whoever has the password, or the link, may."""

FORGED = [
    (name, forged)
    for name in TABLE
    for forged in ("no token", "a wrong token", "another session's token", "another site", "a site of the same domain")
    if not name.startswith("GET ") and ("token" not in forged or name not in SECRET_IN_THE_REQUEST)
]


@pytest.mark.parametrize(("name", "forged"), FORGED)
def test_a_forged_request_changes_nothing(street: Street, name: str, forged: str) -> None:
    """Every changing route, as somebody who may use it."""
    method, path = name.split(" ")
    who = next((one for one, may in zip(reversed(ROLES), reversed(TABLE[name]), strict=True) if may == Y), "nobody")
    headers = {
        "no token": {"X-CSRF-Token": ""},
        "a wrong token": {"X-CSRF-Token": "wrong"},
        "another session's token": {"X-CSRF-Token": street.server.service.token()},
        "another site": {"Origin": "https://evil.example"},
        "a site of the same domain": {"Sec-Fetch-Site": "same-site"},
    }[forged]
    street.again()
    before = street.content()
    answer = street.ask(method, path, who, headers)
    assert answer.status_code == 403
    assert ("too old" if "token" in forged else "another site") in answer.text
    assert street.content() == before


@pytest.mark.parametrize("name", [name for name in TABLE if name.startswith("GET ")])
def test_looking_changes_nothing(street: Street, name: str) -> None:
    """But for the desk, which takes an item for whoever sits down, and exports, which are written down."""
    path = name.split(" ")[1]
    street.again()
    before = street.content()
    for who in ("reviewer", "owner"):
        street.ask("GET", path, who)
    assert street.content() == before or path.endswith(("/rate", "/export", "/judgments"))


@both
def test_nobody_answers_for_another(server: RatingServer) -> None:
    project = server.project()
    for name in ("bob", "eve"):
        server.account(name, "rater", project)
    bob, eve = server.client("bob"), server.client("eve")
    mine = bob.api(f"/projects/{project.id}/assignments").json()["assignments"][0]["id"]
    body = {"assignment": mine, "key": "12345678", "answer": {"ranking": [[0], [1]]}}
    assert eve.api(f"/projects/{project.id}/judgments", body).status_code == 404
    assert eve.api(f"/projects/{project.id}/assignments/{mine}/release").status_code == 404
    assert bob.api(f"/projects/{project.id}/judgments", body).status_code == 200
    other = server.project("Other")
    server.ratings.join(other.id, server.accounts["bob"].id, server.clock())
    assert bob.api(f"/projects/{other.id}/judgments", {**body, "key": "87654321"}).status_code == 404  # by way of another project


@both
def test_reviewers_see_answers_only_after_their_own_or_when_all_are_in(server: RatingServer) -> None:
    project = server.project(items=1, overlap=2)
    for name, role in (("bob", "rater"), ("eve", "rater"), ("rev", "reviewer")):
        server.account(name, role, project)
    path = f"/projects/{project.id}/review/{next(iter(server.ratings.items(project.id))).id}"
    rev = server.client("rev")

    def answer(name: str) -> None:
        held = server.ratings.claim(project.id, server.accounts[name].id, server.clock(), server.service.random)
        assert held is not None
        server.ratings.submit(held.id, held.rater, Answer(ranking=((0,), (1,)), reason=f"so says {name}"), f"key {name}", server.clock())

    answer("bob")
    assert rev.post(path + "/look").status_code == 409
    assert "so says bob" not in rev.get(path).text
    answer("eve")
    assert "so says bob" not in rev.get(path).text
    assert rev.post(path + "/look").status_code == 303
    assert "so says bob" in rev.get(path).text


def test_what_somebody_wrote_fills_no_form_before_the_look(server: RatingServer) -> None:
    project = server.project(items=1, task=Task(kind="write", reason="off"))
    server.account("bob", "rater", project)
    server.account("rev", "reviewer", project)
    held = server.ratings.claim(project.id, server.accounts["bob"].id, server.clock(), server.service.random)
    assert held is not None
    server.ratings.submit(held.id, held.rater, Answer(text="what bob wrote"), "12345678", server.clock())
    rev, path = server.client("rev"), f"/projects/{project.id}/review/{held.item}"
    assert "what bob wrote" not in rev.get(path).text
    rev.post(path + "/look")
    assert rev.get(path).text.count("what bob wrote") == 2


@both
def test_a_skip_taken_back_after_a_look_is_no_answer(server: RatingServer) -> None:
    project = server.project(items=1, overlap=1)
    for name, role in (("bob", "rater"), ("rev", "reviewer")):
        server.account(name, role, project)
    rev, bob = server.client("rev"), server.client("bob")

    def judge(who: Client, answer: dict[str, object], key: str) -> str:
        held = who.api(f"/projects/{project.id}/assignments").json()["assignments"][0]["id"]
        return str(who.api(f"/projects/{project.id}/judgments", {"assignment": held, "key": key, "answer": answer}).json()["status"])

    path = f"/projects/{project.id}/review/{next(iter(server.ratings.items(project.id))).id}"
    judge(rev, {"skipped": True}, "k" * 8)
    assert rev.post(path + "/look").status_code == 409
    judge(bob, {"ranking": [[0], [1]], "reason": "so says bob"}, "l" * 8)
    assert rev.post(path + "/look").status_code == 303
    assert "so says bob" in rev.get(path).text
    told = rev.api(f"/projects/{project.id}/undo", {"key": "m" * 8})
    assert told.status_code == 422
    assert "your answer stands" in told.json()["detail"]
    assert rev.api(f"/projects/{project.id}/assignments").json()["assignments"] == []


def test_a_reviewer_of_one_project_is_a_rater_of_the_next(server: RatingServer) -> None:
    server.account("ann", "owner")
    ann, bob = server.client("ann"), server.client()
    first, second = server.project("First"), server.project("Second")
    for project, role in ((first, "reviewer"), (second, "rater")):
        made = ann.post(f"/projects/{project.id}/invitations", {"role": role, "uses": "1", "days": "1"}).text
        link = re.search(r"/invitations/[\w-]+", made)
        assert link is not None
        assert bob.post(link[0], {"name": "bob", "password": PASSWORD}).status_code == 303
        bob.csrf = bob.http.get("/api/session").json()["csrf"]
    item = {one.id: next(iter(server.ratings.items(one.id))).id for one in (first, second)}
    for page in ("/people", "/review", "/review/{item}"):
        found = [bob.get(f"/projects/{one.id}{page.format(item=item[one.id])}").status_code for one in (first, second)]
        assert found == [200, 403], page
    decision = {"ranking": "1 > 2"}
    assert bob.post(f"/projects/{first.id}/review/{item[first.id]}", decision).status_code == 303
    assert bob.post(f"/projects/{second.id}/review/{item[second.id]}", decision).status_code == 403
    with pytest.raises(DataError, match="may not adjudicate"):
        server.ratings.adjudicate(item[second.id], server.ratings.accounts()[-1].id, Answer(ranking=((0,), (1,))), "key", 1.0)
    assert [one["role"] for one in ann.api(f"/projects/{first.id}/members", method="GET").json()] == ["reviewer"]
    assert [one["role"] for one in ann.api(f"/projects/{second.id}/members", method="GET").json()] == ["rater"]
    assert bob.get("/").text.count("Dashboard") == 1
    server.ratings.leave(first.id, server.ratings.accounts()[-1].id)
    server.ratings.join(first.id, server.ratings.accounts()[-1].id, 1.0)
    assert bob.get(f"/projects/{first.id}/review").status_code == 403  # what was taken away does not come back by itself


def test_what_a_rater_is_told_moves_with_gold_as_with_any_other(server: RatingServer) -> None:
    """What stands still when gold is answered gives it away."""
    project = server.project(items=6, gold_share=0.5)
    gold = [Item((Message("user", f"gold {n}"),), (Candidate("good"), Candidate("bad")), gold=((0,), (1,))) for n in range(6)]
    server.ratings.add_items(project.id, gold, server.clock())
    server.account("bob", "rater", project)
    server.account("ann", "owner", project)
    bob, ann = server.client("bob"), server.client("ann")
    known = {one.id for one in server.ratings.items(project.id) if one.gold}
    kinds, told = set(), []
    for n in range(8):
        server.clock.ahead += 3600  # no figure is kept so long
        told.append((bob.api(f"/projects/{project.id}/progress", method="GET").json(), bob.get("/").text, len(told)))
        held = bob.api(f"/projects/{project.id}/assignments").json()["assignments"][0]
        kinds.add(server.ratings.assignment(held["id"]).item in known)
        answer = {"assignment": held["id"], "key": f"number {n}", "answer": {"ranking": [[0], [1]]}}
        assert bob.api(f"/projects/{project.id}/judgments", answer).json().keys() == {"judgment", "status", "cause", "assignments"}
    assert kinds == {True, False}
    assert [said for said, _, _ in told] == [{"mine": n} for n in range(8)]
    assert all(f"{n} judged by you" in text and "<progress" not in text for _, text, n in told)
    assert "<progress" not in bob.get(f"/projects/{project.id}/rate").text
    assert "<progress" not in bob.get(f"/projects/{project.id}").text
    assert set(ann.api(f"/projects/{project.id}/progress", method="GET").json()) > {"mine", "wanted", "gold"}


def test_the_role_is_read_at_each_request(server: RatingServer) -> None:
    project = server.project()
    account = server.account("bob", "owner", project)
    server.account("ann", "owner")
    client = server.client("bob")
    assert client.get("/audit").status_code == 200
    server.ratings.set_role(account.id, "rater")
    assert client.get("/audit").status_code == 403


def test_the_last_owner_stays(server: RatingServer) -> None:
    ann = server.account("ann", "owner")
    client = server.client("ann")
    assert client.post(f"/accounts/{ann.id}/role", {"role": "rater"}).status_code == 422
    assert client.post("/me/erase", {"password": "four words make one"}).status_code == 422
    assert server.ratings.account(ann.id).role == "owner"


@pytest.mark.parametrize("word", ["' OR 1=1 --", "1; DROP TABLE items", "%", "_" * 24, "../..", "\u0000", "{}", "a" * 5000])
def test_paths_and_names_are_never_a_query(server: RatingServer, word: str) -> None:
    server.project()
    server.account("ann", "owner")
    client = server.client("ann")
    from urllib.parse import quote

    for path in ("/projects/{}", "/api/projects/{}", "/projects/{}/rate", "/setup/{}", "/passwords/{}"):
        assert client.get(path.format(quote(word, safe=""))).status_code in {404, 405}, path
    answer = server.client().http.post("/signin", data={"name": word, "password": "x" * 12})
    assert answer.status_code == 401
    assert len(server.ratings.projects()) == 1


def test_the_item_under_way_stays_the_first(server: RatingServer) -> None:
    """Whoever loads the page again finds the item on which he was, not the one fetched ahead."""
    project = server.project(items=40)
    for name in "abcdefgh":
        server.account(name, "rater", project)
        client = server.client(name)
        first = client.api(f"/projects/{project.id}/assignments").json()["assignments"]
        again = client.api(f"/projects/{project.id}/assignments").json()["assignments"]
        assert [one["id"] for one in first] == [one["id"] for one in again]

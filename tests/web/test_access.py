"""Every route has a rule, and the rule holds for every role, for strangers, and for objects of others."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from starlette.routing import Route

from palate.stores.ratings import Answer, Project
from palate.web.access import RANKS
from palate.web.app import create_app, is_static, rule_of
from tests.support.house import Client, House, open_house

WHO = ("nobody", "stranger", "rater", "reviewer", "owner")
"""`stranger` is a rater of another project."""


def routes(house: House) -> list[APIRoute]:
    app = create_app(house.service)
    found = [route for route in app.routes if isinstance(route, APIRoute)]
    assert len(found) > 40
    return found


def test_every_route_has_one_rule(house: House) -> None:
    app = create_app(house.service)
    bare = [route for route in app.routes if not is_static(route) and rule_of(route) is None]
    assert bare == []
    assert len(app.routes) > 40
    assert not any(isinstance(route, Route) and not isinstance(route, APIRoute) for route in app.routes)


def test_a_route_without_a_rule_is_found(house: House) -> None:
    app = create_app(house.service)

    @app.get("/secret")
    def secret() -> str:
        return ""

    assert [route.path for route in app.routes if not is_static(route) and rule_of(route) is None] == ["/secret"]


def test_what_is_open_to_everybody_is_listed_here(house: House) -> None:
    public = {
        (method, route.path) for route in routes(house) if (rule := rule_of(route)) and rule.least == "public" for method in route.methods
    }
    assert public == {
        ("GET", "/signin"), ("POST", "/signin"), ("GET", "/setup/{token}"), ("POST", "/setup/{token}"), ("GET", "/invitations/{token}"),
        ("POST", "/invitations/{token}"), ("GET", "/passwords/{token}"), ("POST", "/passwords/{token}"), ("GET", "/api/openapi.json"),
    }  # fmt: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Project, dict[str, Client], dict[str, str]]]:
    """One house, a client of each kind of person, and what stands for each name in a path."""
    folder: Path = tmp_path_factory.mktemp("house")
    with open_house(folder) as house:
        project, other = house.project("Ours"), house.project("Theirs")
        house.account("stranger", "rater", other)
        for role in ("rater", "reviewer", "owner"):
            house.account(role, role, project)
        house.account("victim", "rater", project)
        clients = {who: house.client(None if who == "nobody" else who) for who in WHO}
        held = house.ratings.claim(project.id, house.accounts["victim"].id, house.clock(), house.service.random)
        assert held is not None
        item = next(iter(house.ratings.items(project.id)))
        values = {"project": project.id, "assignment": held.id, "item": item.id, "account": house.accounts["victim"].id}
        values |= {"token": "none", "place": "0", "number": "0"}
        yield house, project, clients, values


def test_access_by_route_and_role(shared: tuple[House, Project, dict[str, Client], dict[str, str]]) -> None:
    """Below its rule no route does anything: 401 or the way to the sign-in page, 403, or 404. At its rule none refuses."""
    house, _, clients, values = shared
    wrong = []
    skipped = {"/me/signout", "/signout", "/me/erase", "/me/password"}  # they end the test's session, or ask for a password: see test_entry
    for route, who in itertools.product(routes(house), WHO):
        rule = rule_of(route)
        assert rule is not None
        if rule.least == "public" or (route.path in skipped and who != "nobody"):
            continue
        (method,) = route.methods or {"GET"}
        path = route.path.format(**values)
        client = clients[who]
        answer = client.http.request(method, path, headers={"X-CSRF-Token": client.csrf})
        rank = 0 if who == "nobody" else RANKS["rater" if who == "stranger" else who]
        hidden = (who == "stranger" and "{project}" in route.path) or "{assignment}" in route.path
        hidden = hidden or ("{account}" in route.path and who != "owner")
        refused = answer.status_code in {401, 403, 404} or (answer.status_code == 303 and answer.headers["location"].startswith("/signin"))
        allowed = rank >= RANKS[rule.least] and not hidden
        if allowed is refused and not (allowed and answer.status_code == 404 and "media" in path):
            wrong.append((who, method, route.path, answer.status_code))
        if who == "nobody" and not (answer.status_code == 401 or answer.headers.get("location", "").startswith("/signin")):
            wrong.append((who, method, route.path, answer.status_code))
        if answer.status_code >= 500:
            wrong.append((who, method, route.path, answer.status_code))
    assert wrong == []


def test_nobody_answers_for_another(house: House) -> None:
    project = house.project()
    for name in ("bob", "eve"):
        house.account(name, "rater", project)
    bob, eve = house.client("bob"), house.client("eve")
    mine = bob.api(f"/projects/{project.id}/assignments").json()["assignments"][0]["id"]
    body = {"assignment": mine, "key": "12345678", "answer": {"ranking": [[0], [1]]}}
    assert eve.api(f"/projects/{project.id}/judgments", body).status_code == 404
    assert eve.api(f"/projects/{project.id}/assignments/{mine}/release").status_code == 404
    assert bob.api(f"/projects/{project.id}/judgments", body).status_code == 200
    other = house.project("Other")
    house.ratings.join(other.id, house.accounts["bob"].id, house.clock())
    assert bob.api(f"/projects/{other.id}/judgments", {**body, "key": "87654321"}).status_code == 404  # by way of another project


def test_items_are_reached_by_their_own_project_only(house: House) -> None:
    ours, theirs = house.project("Ours"), house.project("Theirs")
    house.account("rev", "reviewer", ours)
    item = next(iter(house.ratings.items(theirs.id))).id
    client = house.client("rev")
    assert client.get(f"/projects/{theirs.id}/review/{item}").status_code == 404
    assert client.get(f"/projects/{ours.id}/review/{item}").status_code == 404


def test_reviewers_see_answers_only_after_their_own_or_when_all_are_in(house: House) -> None:
    project = house.project(items=1, overlap=2)
    for name, role in (("bob", "rater"), ("eve", "rater"), ("rev", "reviewer")):
        house.account(name, role, project)
    path = f"/projects/{project.id}/review/{next(iter(house.ratings.items(project.id))).id}"
    rev = house.client("rev")

    def answer(name: str) -> None:
        held = house.ratings.claim(project.id, house.accounts[name].id, house.clock(), house.service.random)
        assert held is not None
        house.ratings.submit(held.id, held.rater, Answer(ranking=((0,), (1,)), reason=f"so says {name}"), f"key {name}", house.clock())

    answer("bob")
    assert "so says bob" not in rev.get(path).text
    answer("eve")
    assert "so says bob" in rev.get(path).text


def test_the_role_is_read_at_each_request(house: House) -> None:
    project = house.project()
    account = house.account("bob", "owner", project)
    house.account("ann", "owner")
    client = house.client("bob")
    assert client.get("/audit").status_code == 200
    house.ratings.set_role(account.id, "rater")
    assert client.get("/audit").status_code == 403


def test_the_last_owner_stays(house: House) -> None:
    ann = house.account("ann", "owner")
    client = house.client("ann")
    assert client.post(f"/accounts/{ann.id}/role", {"role": "rater"}).status_code == 422
    assert client.post("/me/erase", {"password": "four words make one"}).status_code == 422
    assert house.ratings.account(ann.id).role == "owner"


@pytest.mark.parametrize("word", ["' OR 1=1 --", "1; DROP TABLE items", "%", "_" * 24, "../..", "\u0000", "{}", "a" * 5000])
def test_paths_and_names_are_never_a_query(house: House, word: str) -> None:
    house.project()
    house.account("ann", "owner")
    client = house.client("ann")
    from urllib.parse import quote

    for path in ("/projects/{}", "/api/projects/{}", "/projects/{}/rate", "/setup/{}", "/passwords/{}"):
        assert client.get(path.format(quote(word, safe=""))).status_code in {404, 405}, path
    answer = house.client().http.post("/signin", data={"name": word, "password": "x" * 12})
    assert answer.status_code == 401
    assert len(house.ratings.projects()) == 1


def test_the_item_under_way_stays_the_first(house: House) -> None:
    """Whoever loads the page again finds the item on which he was, not the one fetched ahead."""
    project = house.project(items=40)
    for name in "abcdefgh":
        house.account(name, "rater", project)
        client = house.client(name)
        first = client.api(f"/projects/{project.id}/assignments").json()["assignments"]
        again = client.api(f"/projects/{project.id}/assignments").json()["assignments"]
        assert [one["id"] for one in first] == [one["id"] for one in again]

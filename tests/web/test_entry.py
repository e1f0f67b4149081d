"""Coming in and staying out: set-up, sign-in, sessions, CSRF, throttling, limits."""

from __future__ import annotations

import io
import re
import sqlite3
from pathlib import Path

import httpx
import pytest

from palate.core import ConfigError
from palate.web.command import owner_link
from palate.web.credentials import Passwords, check_name, check_password, hashed
from palate.web.request_limits import HEADERS, Limits
from palate.web.service import DAY, WebSettings
from tests.support.rating_server import PASSWORD, RatingServer, open_rating_server
from tests.web.conftest import both


def link_in(text: str, kind: str) -> str:
    found = re.search(rf"/{kind}/[\w-]+", text)
    assert found is not None
    return found[0]


def test_there_is_no_default_account(server: RatingServer) -> None:
    assert server.ratings.accounts() == ()
    for name in ("admin", "owner", "palate", "root", ""):
        for password in ("admin", "password", "palate", ""):
            assert server.client().sign_in(name, password).status_code in {401, 429}


@both
def test_the_setup_link_makes_one_owner_once(server: RatingServer) -> None:
    token = owner_link(server.service)
    path, form = f"/setup/{token}", {"name": "Ann", "password": PASSWORD}
    first, second = server.client(), server.client()
    assert first.post(path, {"name": "Ann", "password": "short"}).status_code == 422  # a bad password does not use it up
    assert first.post(path, form).status_code == 303
    assert second.post(path, {"name": "Eve", "password": PASSWORD}).status_code == 404
    assert [one.role for one in server.ratings.accounts()] == ["owner"]
    assert owner_link(server.service) == ""
    assert first.get("/audit").status_code == 200


def test_a_setup_link_ends_after_a_day(server: RatingServer) -> None:
    token = owner_link(server.service)
    server.clock.ahead = DAY + 1
    assert server.client().get(f"/setup/{token}").status_code == 404


@both
def test_an_invitation_makes_a_member_with_its_role_only(server: RatingServer) -> None:
    project, other = server.project(), server.project("Other")
    server.account("ann", "owner")
    ann = server.client("ann")
    link = link_in(ann.post(f"/projects/{project.id}/invitations", {"role": "rater", "uses": "1", "days": "1"}).text, "invitations")
    bob = server.client()
    assert bob.post(link, {"name": "bob", "password": PASSWORD, "role": "owner"}).status_code == 303
    assert bob.get(f"/projects/{project.id}").status_code == 200
    assert bob.get(f"/projects/{other.id}").status_code == 404
    assert server.ratings.account_by_name("bob").role == "rater"  # type: ignore[union-attr]
    assert server.client().post(link, {"name": "eve", "password": PASSWORD}).status_code == 404  # one use
    assert server.ratings.account_by_name("eve") is None


def test_an_owner_never_comes_by_invitation(server: RatingServer) -> None:
    project = server.project()
    server.account("ann", "owner")
    ann = server.client("ann")
    link = link_in(ann.post(f"/projects/{project.id}/invitations", {"role": "owner", "uses": "1", "days": "1"}).text, "invitations")
    server.client().post(link, {"name": "eve", "password": PASSWORD})
    assert server.ratings.account_by_name("eve").role == "rater"  # type: ignore[union-attr]


def test_a_session_cannot_be_fixed(server: RatingServer) -> None:
    server.account("bob")
    server.account("eve")
    client = server.client()
    client.http.cookies.set(server.cookie_name, "chosen-by-an-attacker", domain="127.0.0.1")
    client.sign_in("bob")
    token = client.http.cookies[server.cookie_name]
    assert token != "chosen-by-an-attacker"
    assert server.ratings.session(hashed("chosen-by-an-attacker", "cookie"), server.clock()) is None
    client.sign_in("eve")  # signing in again: a new token, and the old one is worth nothing
    assert client.http.cookies[server.cookie_name] != token
    assert server.ratings.session(hashed(token, "cookie"), server.clock()) is None


@both
def test_signing_out_ends_the_session_on_the_server(server: RatingServer) -> None:
    server.account("bob")
    client = server.client("bob")
    token = client.http.cookies[server.cookie_name]
    client.post("/signout")
    again = httpx.Client(base_url=server.url, cookies={server.cookie_name: token})
    assert again.get("/api/session").status_code == 401


@pytest.mark.parametrize("how", ["an owner ends them", "the password changes", "time", "erased"])
def test_sessions_can_be_revoked(server: RatingServer, how: str) -> None:
    server.account("ann", "owner")
    bob = server.account("bob")
    client, key_owner = server.client("bob"), server.client("bob")
    key = re.search(r'<code id="token">([\w-]+)</code>', key_owner.post("/me/token").text)[1]  # type: ignore[index]
    bearer = httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"})
    assert client.get("/api/session").status_code == bearer.get("/api/session").status_code == 200
    if how == "an owner ends them":
        server.client("ann").post(f"/accounts/{bob.id}/signout")
    elif how == "the password changes":
        other = server.client("bob")
        other.post("/me/password", {"old": PASSWORD, "password": "another four words"})
        assert other.get("/api/session").status_code == 200
    elif how == "time":
        server.clock.ahead = 91 * DAY
    else:
        server.client("bob").post("/me/erase", {"password": PASSWORD})
    assert client.get("/api/session").status_code == bearer.get("/api/session").status_code == 401


def test_a_cookie_is_no_key_and_a_key_no_cookie(server: RatingServer) -> None:
    server.account("bob")
    client = server.client("bob")
    cookie = client.http.cookies[server.cookie_name]
    key = re.search(r'<code id="token">([\w-]+)</code>', client.post("/me/token").text)[1]  # type: ignore[index]
    assert server.client().http.get("/api/session", headers={"Authorization": f"Bearer {cookie}"}).status_code == 401
    assert server.client().http.get("/api/session", cookies={server.cookie_name: key}).status_code == 401


def test_secrets_are_hashed_on_the_disk(server: RatingServer, tmp_path: Path) -> None:
    project = server.project()
    server.account("ann", "owner", project)
    ann = server.client("ann")
    link = link_in(ann.post(f"/projects/{project.id}/invitations", {"role": "rater", "uses": "2", "days": "1"}).text, "invitations")
    secrets = [PASSWORD, ann.http.cookies[server.cookie_name], link.rpartition("/")[2]]
    dump = "\n".join(sqlite3.connect(tmp_path / "ratings.db").iterdump())
    assert "$argon2id$" in dump
    assert [one for one in secrets if one in dump] == []


def test_the_parameters_of_argon2_are_strong() -> None:
    kept = Passwords().hash("four words make one")
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert not Passwords().is_outdated(kept)


def test_requests_that_change_something_need_the_token(server: RatingServer) -> None:
    project = server.project()
    server.account("ann", "owner", project)
    ann = server.client("ann")
    forms = ["/projects", f"/projects/{project.id}/guideline", f"/projects/{project.id}/invitations", "/me/token", "/me/erase", "/signout"]
    for path in forms:
        for token in ("", "wrong", "\u00e9"):
            assert ann.http.post(path, data={"csrf": token, "text": "x", "name": "x"}).status_code == 403, path
    assert ann.http.post(f"/api/projects/{project.id}/undo", json={"key": "k" * 16}).status_code == 403
    assert ann.http.post("/api/projects", json={"name": "x"}).json()["code"] == "csrf"
    assert server.ratings.guideline(project.id).version == 1


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}])
def test_requests_of_other_sites_are_refused_even_at_the_sign_in(server: RatingServer, headers: dict[str, str]) -> None:
    server.account("bob")
    client = server.client()
    assert client.http.post("/signin", data={"name": "bob", "password": PASSWORD}, headers=headers).status_code == 403
    assert server.cookie_name not in client.http.cookies


def test_joining_while_signed_in_needs_the_token(server: RatingServer) -> None:
    project = server.project()
    server.account("ann", "owner")
    server.account("bob")
    link = link_in(
        server.client("ann").post(f"/projects/{project.id}/invitations", {"role": "rater", "uses": "9", "days": "1"}).text, "invitations"
    )
    bob = server.client("bob")
    assert bob.http.post(link, data={}).status_code == 403
    assert bob.post(link).status_code == 303
    assert server.accounts["bob"].id in [account.id for account in server.ratings.accounts(project.id)]


def test_guessing_is_throttled_by_name_and_by_address(server: RatingServer) -> None:
    server.account("bob")
    server.account("eve")
    answers = [server.client().sign_in("bob", f"wrong password {n}") for n in range(7)]
    assert [one.status_code for one in answers] == [401] * 5 + [429] * 2
    assert answers[-1].headers["retry-after"] == "900"
    assert server.client().sign_in("bob").status_code == 429  # the right password waits, too, at this address
    assert server.client().sign_in("eve").status_code == 303
    server.clock.ahead = 901
    assert server.client().sign_in("bob").status_code == 303
    names = [server.client().sign_in(f"nobody{n}", "wrong password").status_code for n in range(40)]
    assert names[-1] == 429


def test_nobody_locks_out_whoever_was_signed_in_before(server: RatingServer) -> None:
    server.account("bob")
    server.account("eve")
    bob = server.client("bob")
    bob.post("/signout")
    assert [server.client().sign_in("bob", f"wrong password {n}").status_code for n in range(8)][-1] == 429
    server.client("eve")
    strange = server.client("eve")
    assert strange.sign_in("bob").status_code == 429  # known to the browser is another account
    assert bob.sign_in("bob").status_code == 303
    assert server.client().sign_in("bob").status_code == 429  # which tells the stranger nothing
    bob.post("/signout")
    tries = [bob.sign_in("bob", f"wrong password {n}").status_code for n in range(7)]
    assert tries == [401] * 5 + [429] * 2  # a stolen browser guesses no more than others
    known = bob.http.cookies[f"{server.cookie_name}-known"]
    assert server.client().http.get("/api/session", headers={"Cookie": f"palate={known}"}).status_code == 401
    assert server.client().http.get("/api/session", headers={"Authorization": f"Bearer {known}"}).status_code == 401


def test_nobody_elsewhere_locks_out_a_name_by_a_few_tries(server: RatingServer) -> None:
    bob = server.account("bob")
    for n in range(40):
        server.ratings.record_failed_login("bob", f"10.0.0.{n % 8}", server.clock())
    assert server.client().sign_in("bob").status_code == 303
    for n in range(51):
        server.ratings.record_failed_login("bob", f"10.0.1.{n}", server.clock())
    assert server.client().sign_in("bob").status_code == 429
    assert server.ratings.account(bob.id).name == "bob"


def test_an_invitation_that_does_not_work_says_so_before_anything_is_typed(server: RatingServer) -> None:
    project = server.project()
    server.ratings.invite(project.id, "rater", hashed("token", "invitation"), server.clock() + 100, 1)
    assert "<form" in server.client().get("/invitations/token").text
    bad = server.client().post("/invitations/token", {"name": "bob", "password": "short"})
    assert bad.status_code == 422
    assert server.client().get("/invitations/token").status_code == 200  # neither cost a use
    server.clock.ahead = 101
    for found in (
        server.client().get("/invitations/token"),
        server.client().post("/invitations/token", {"name": "bob", "password": "short"}),
    ):
        assert found.status_code == 404
        assert "has expired" in found.text
        assert "<form" not in found.text
    assert server.client().get("/invitations/another").status_code == 404


def test_a_wrong_name_and_a_wrong_password_look_alike(server: RatingServer) -> None:
    server.account("bob")
    wrong = [server.client().sign_in(name, "wrong password").text.replace(f'"{name}"', "NAME") for name in ("bob", "eve")]
    assert wrong[0] == wrong[1]


@pytest.mark.parametrize("place", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/a\nb"])
def test_the_way_on_after_the_sign_in_stays_here(server: RatingServer, place: str) -> None:
    server.account("bob")
    answer = server.client().http.post("/signin", params={"next": place}, data={"name": "bob", "password": PASSWORD})
    assert answer.headers["location"] == "/"


def test_cookies_and_headers(tmp_path: Path) -> None:
    with open_rating_server(tmp_path, WebSettings(secure=True)) as server:
        server.account("bob")
        answer = server.client().http.post("/signin", data={"name": "bob", "password": PASSWORD})
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith(f"__Host-{server.cookie_name}=")
        assert {"HttpOnly", "Secure", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
        for path in ("/signin", "/static/base.css", "/nowhere", "/api/session"):
            found = server.client().get(path).headers
            assert {name for name, value in HEADERS.items() if name != "Cache-Control" and found.get(name) != value} == set(), path
            assert found["strict-transport-security"]
        assert "unsafe" not in HEADERS["Content-Security-Policy"]


def test_bodies_have_limits_announced_or_not(tmp_path: Path) -> None:
    with open_rating_server(tmp_path, WebSettings(limits=Limits(body=2000, upload=5000))) as server:
        project = server.project()
        server.account("ann", "owner", project)
        ann = server.client("ann")
        assert ann.post("/projects", {"name": "x" * 3000}).status_code == 413
        chunks = (b"x" * 500 for _ in range(10))
        headers = {"Content-Type": "application/json", "X-CSRF-Token": ann.csrf}
        assert ann.http.post("/api/projects", content=chunks, headers=headers).status_code == 413
        row = b'{"prompt": "p", "completions": ["a", "b"]}\n'
        sent = ann.post(f"/projects/{project.id}/items", files={"file": ("a.jsonl", io.BytesIO(row + b" " * 3000))})
        assert sent.status_code == 200
        assert "1 items added" in sent.text
        assert ann.post(f"/projects/{project.id}/items", files={"file": ("a.jsonl", io.BytesIO(row * 200))}).status_code == 413
        assert len(list(server.ratings.items(project.id))) == 6


UNSEEN = ["a\u202eb", "a\u200bb", "\ufeff", "\u3164", "\u2800", "\u115f\u1160", "bob\uffa0", "a\u034f", "\u0301", "bob\U000e0041"]


@pytest.mark.parametrize("name", ["", " ", "a" * 65, "a\nb\x00", *UNSEEN])
def test_names_are_visible(name: str) -> None:
    with pytest.raises(ConfigError):
        check_name(name)


@pytest.mark.parametrize("password", ["short", "1234567890", "aaaaaaaaaaaa", "password123", "my name is bobby", "x" * 257])
def test_weak_passwords_are_refused(password: str) -> None:
    with pytest.raises(ConfigError):
        check_password(password, "bobby")


@both
def test_erasing_takes_the_person_and_leaves_the_judgments(server: RatingServer) -> None:
    project = server.project()
    bob = server.account("Robert Unusual", "rater", project)
    client = server.client("Robert Unusual")
    held = client.api(f"/projects/{project.id}/assignments").json()["assignments"][0]["id"]
    client.api(f"/projects/{project.id}/judgments", {"assignment": held, "key": "12345678", "answer": {"ranking": [[0], [1]]}})
    exported = client.post("/me/export")
    assert exported.json()["account"]["name"] == "Robert Unusual"
    assert "argon2" not in exported.text
    assert client.post("/me/erase", {"password": "wrong password"}).status_code == 401
    assert client.post("/me/erase", {"password": PASSWORD}).status_code == 303
    assert server.client().sign_in("Robert Unusual").status_code == 401
    (entry,) = server.ratings.judgments(project.id)
    assert entry.pseudonym == bob.pseudonym
    server.account("ann", "owner", project)
    assert "Robert" not in server.client("ann").get("/audit").text

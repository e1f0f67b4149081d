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
from tests.support.house import PASSWORD, House, open_house
from tests.web.conftest import both


def link_in(text: str, kind: str) -> str:
    found = re.search(rf"/{kind}/[\w-]+", text)
    assert found is not None
    return found[0]


def test_there_is_no_default_account(house: House) -> None:
    assert house.ratings.accounts() == ()
    for name in ("admin", "owner", "palate", "root", ""):
        for password in ("admin", "password", "palate", ""):
            assert house.client().sign_in(name, password).status_code in {401, 429}


@both
def test_the_setup_link_makes_one_owner_once(house: House) -> None:
    token = owner_link(house.service)
    path, form = f"/setup/{token}", {"name": "Ann", "password": PASSWORD}
    first, second = house.client(), house.client()
    assert first.post(path, {"name": "Ann", "password": "short"}).status_code == 422  # a bad password does not use it up
    assert first.post(path, form).status_code == 303
    assert second.post(path, {"name": "Eve", "password": PASSWORD}).status_code == 404
    assert [one.role for one in house.ratings.accounts()] == ["owner"]
    assert owner_link(house.service) == ""
    assert first.get("/audit").status_code == 200


def test_a_setup_link_ends_after_a_day(house: House) -> None:
    token = owner_link(house.service)
    house.clock.ahead = DAY + 1
    assert house.client().get(f"/setup/{token}").status_code == 404


@both
def test_an_invitation_makes_a_member_with_its_role_only(house: House) -> None:
    project, other = house.project(), house.project("Other")
    house.account("ann", "owner")
    ann = house.client("ann")
    link = link_in(ann.post(f"/projects/{project.id}/invitations", {"role": "rater", "uses": "1", "days": "1"}).text, "invitations")
    bob = house.client()
    assert bob.post(link, {"name": "bob", "password": PASSWORD, "role": "owner"}).status_code == 303
    assert bob.get(f"/projects/{project.id}").status_code == 200
    assert bob.get(f"/projects/{other.id}").status_code == 404
    assert house.ratings.account_by_name("bob").role == "rater"  # type: ignore[union-attr]
    assert house.client().post(link, {"name": "eve", "password": PASSWORD}).status_code == 404  # one use
    assert house.ratings.account_by_name("eve") is None


def test_an_owner_never_comes_by_invitation(house: House) -> None:
    project = house.project()
    house.account("ann", "owner")
    ann = house.client("ann")
    link = link_in(ann.post(f"/projects/{project.id}/invitations", {"role": "owner", "uses": "1", "days": "1"}).text, "invitations")
    house.client().post(link, {"name": "eve", "password": PASSWORD})
    assert house.ratings.account_by_name("eve").role == "rater"  # type: ignore[union-attr]


def test_a_session_cannot_be_fixed(house: House) -> None:
    house.account("bob")
    house.account("eve")
    client = house.client()
    client.http.cookies.set("palate", "chosen-by-an-attacker", domain="127.0.0.1")
    client.sign_in("bob")
    token = client.http.cookies["palate"]
    assert token != "chosen-by-an-attacker"
    assert house.ratings.session(hashed("chosen-by-an-attacker", "cookie"), house.clock()) is None
    client.sign_in("eve")  # signing in again: a new token, and the old one is worth nothing
    assert client.http.cookies["palate"] != token
    assert house.ratings.session(hashed(token, "cookie"), house.clock()) is None


@both
def test_signing_out_ends_the_session_on_the_server(house: House) -> None:
    house.account("bob")
    client = house.client("bob")
    token = client.http.cookies["palate"]
    client.post("/signout")
    again = httpx.Client(base_url=house.url, cookies={"palate": token})
    assert again.get("/api/session").status_code == 401


@pytest.mark.parametrize("how", ["an owner ends them", "the password changes", "time", "erased"])
def test_sessions_can_be_revoked(house: House, how: str) -> None:
    house.account("ann", "owner")
    bob = house.account("bob")
    client, key_owner = house.client("bob"), house.client("bob")
    key = re.search(r'<code id="token">([\w-]+)</code>', key_owner.post("/me/token").text)[1]  # type: ignore[index]
    bearer = httpx.Client(base_url=house.url, headers={"Authorization": f"Bearer {key}"})
    assert client.get("/api/session").status_code == bearer.get("/api/session").status_code == 200
    if how == "an owner ends them":
        house.client("ann").post(f"/accounts/{bob.id}/signout")
    elif how == "the password changes":
        other = house.client("bob")
        other.post("/me/password", {"old": PASSWORD, "password": "another four words"})
        assert other.get("/api/session").status_code == 200
    elif how == "time":
        house.clock.ahead = 91 * DAY
    else:
        house.client("bob").post("/me/erase", {"password": PASSWORD})
    assert client.get("/api/session").status_code == bearer.get("/api/session").status_code == 401


def test_a_cookie_is_no_key_and_a_key_no_cookie(house: House) -> None:
    house.account("bob")
    client = house.client("bob")
    cookie = client.http.cookies["palate"]
    key = re.search(r'<code id="token">([\w-]+)</code>', client.post("/me/token").text)[1]  # type: ignore[index]
    assert house.client().http.get("/api/session", headers={"Authorization": f"Bearer {cookie}"}).status_code == 401
    assert house.client().http.get("/api/session", cookies={"palate": key}).status_code == 401


def test_secrets_are_hashed_on_the_disk(house: House, tmp_path: Path) -> None:
    project = house.project()
    house.account("ann", "owner", project)
    ann = house.client("ann")
    link = link_in(ann.post(f"/projects/{project.id}/invitations", {"role": "rater", "uses": "2", "days": "1"}).text, "invitations")
    secrets = [PASSWORD, ann.http.cookies["palate"], link.rpartition("/")[2]]
    dump = "\n".join(sqlite3.connect(tmp_path / "ratings.db").iterdump())
    assert "$argon2id$" in dump
    assert [one for one in secrets if one in dump] == []


def test_the_parameters_of_argon2_are_strong() -> None:
    kept = Passwords().hash("four words make one")
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert not Passwords().is_outdated(kept)


def test_requests_that_change_something_need_the_token(house: House) -> None:
    project = house.project()
    house.account("ann", "owner", project)
    ann = house.client("ann")
    forms = ["/projects", f"/projects/{project.id}/guideline", f"/projects/{project.id}/invitations", "/me/token", "/me/erase", "/signout"]
    for path in forms:
        for token in ("", "wrong", "\u00e9"):
            assert ann.http.post(path, data={"csrf": token, "text": "x", "name": "x"}).status_code == 403, path
    assert ann.http.post(f"/api/projects/{project.id}/undo", json={"key": "k" * 16}).status_code == 403
    assert ann.http.post("/api/projects", json={"name": "x"}).json()["code"] == "csrf"
    assert house.ratings.guideline(project.id).version == 1


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}])
def test_requests_of_other_sites_are_refused_even_at_the_sign_in(house: House, headers: dict[str, str]) -> None:
    house.account("bob")
    client = house.client()
    assert client.http.post("/signin", data={"name": "bob", "password": PASSWORD}, headers=headers).status_code == 403
    assert "palate" not in client.http.cookies


def test_joining_while_signed_in_needs_the_token(house: House) -> None:
    project = house.project()
    house.account("ann", "owner")
    house.account("bob")
    link = link_in(
        house.client("ann").post(f"/projects/{project.id}/invitations", {"role": "rater", "uses": "9", "days": "1"}).text, "invitations"
    )
    bob = house.client("bob")
    assert bob.http.post(link, data={}).status_code == 403
    assert bob.post(link).status_code == 303
    assert house.accounts["bob"].id in [account.id for account in house.ratings.accounts(project.id)]


def test_guessing_is_throttled_by_name_and_by_address(house: House) -> None:
    house.account("bob")
    house.account("eve")
    answers = [house.client().sign_in("bob", f"wrong password {n}") for n in range(7)]
    assert [one.status_code for one in answers] == [401] * 5 + [429] * 2
    assert answers[-1].headers["retry-after"] == "900"
    assert house.client().sign_in("bob").status_code == 429  # the right password waits, too, at this address
    assert house.client().sign_in("eve").status_code == 303
    house.clock.ahead = 901
    assert house.client().sign_in("bob").status_code == 303
    names = [house.client().sign_in(f"nobody{n}", "wrong password").status_code for n in range(40)]
    assert names[-1] == 429


def test_nobody_locks_out_whoever_was_signed_in_before(house: House) -> None:
    house.account("bob")
    house.account("eve")
    bob = house.client("bob")
    bob.post("/signout")
    assert [house.client().sign_in("bob", f"wrong password {n}").status_code for n in range(8)][-1] == 429
    house.client("eve")
    strange = house.client("eve")
    assert strange.sign_in("bob").status_code == 429  # known to the browser is another account
    assert bob.sign_in("bob").status_code == 303
    assert house.client().sign_in("bob").status_code == 429  # which tells the stranger nothing
    bob.post("/signout")
    tries = [bob.sign_in("bob", f"wrong password {n}").status_code for n in range(7)]
    assert tries == [401] * 5 + [429] * 2  # a stolen browser guesses no more than others
    known = bob.http.cookies["palate-known"]
    assert house.client().http.get("/api/session", headers={"Cookie": f"palate={known}"}).status_code == 401
    assert house.client().http.get("/api/session", headers={"Authorization": f"Bearer {known}"}).status_code == 401


def test_nobody_elsewhere_locks_out_a_name_by_a_few_tries(house: House) -> None:
    bob = house.account("bob")
    for n in range(40):
        house.ratings.record_failed_login("bob", f"10.0.0.{n % 8}", house.clock())
    assert house.client().sign_in("bob").status_code == 303
    for n in range(51):
        house.ratings.record_failed_login("bob", f"10.0.1.{n}", house.clock())
    assert house.client().sign_in("bob").status_code == 429
    assert house.ratings.account(bob.id).name == "bob"


def test_an_invitation_that_does_not_work_says_so_before_anything_is_typed(house: House) -> None:
    project = house.project()
    house.ratings.invite(project.id, "rater", hashed("token", "invitation"), house.clock() + 100, 1)
    assert "<form" in house.client().get("/invitations/token").text
    bad = house.client().post("/invitations/token", {"name": "bob", "password": "short"})
    assert bad.status_code == 422
    assert house.client().get("/invitations/token").status_code == 200  # neither cost a use
    house.clock.ahead = 101
    for found in (
        house.client().get("/invitations/token"),
        house.client().post("/invitations/token", {"name": "bob", "password": "short"}),
    ):
        assert found.status_code == 404
        assert "has run out" in found.text
        assert "<form" not in found.text
    assert house.client().get("/invitations/another").status_code == 404


def test_a_wrong_name_and_a_wrong_password_look_alike(house: House) -> None:
    house.account("bob")
    wrong = [house.client().sign_in(name, "wrong password").text.replace(f'"{name}"', "NAME") for name in ("bob", "eve")]
    assert wrong[0] == wrong[1]


@pytest.mark.parametrize("place", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/a\nb"])
def test_the_way_on_after_the_sign_in_stays_here(house: House, place: str) -> None:
    house.account("bob")
    answer = house.client().http.post("/signin", params={"next": place}, data={"name": "bob", "password": PASSWORD})
    assert answer.headers["location"] == "/"


def test_cookies_and_headers(tmp_path: Path) -> None:
    with open_house(tmp_path, WebSettings(secure=True)) as house:
        house.account("bob")
        answer = house.client().http.post("/signin", data={"name": "bob", "password": PASSWORD})
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-palate=")
        assert {"HttpOnly", "Secure", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
        for path in ("/signin", "/static/base.css", "/nowhere", "/api/session"):
            found = house.client().get(path).headers
            assert {name for name, value in HEADERS.items() if name != "Cache-Control" and found.get(name) != value} == set(), path
            assert found["strict-transport-security"]
        assert "unsafe" not in HEADERS["Content-Security-Policy"]


def test_bodies_have_limits_announced_or_not(tmp_path: Path) -> None:
    with open_house(tmp_path, WebSettings(limits=Limits(body=2000, upload=5000))) as house:
        project = house.project()
        house.account("ann", "owner", project)
        ann = house.client("ann")
        assert ann.post("/projects", {"name": "x" * 3000}).status_code == 413
        chunks = (b"x" * 500 for _ in range(10))
        headers = {"Content-Type": "application/json", "X-CSRF-Token": ann.csrf}
        assert ann.http.post("/api/projects", content=chunks, headers=headers).status_code == 413
        row = b'{"prompt": "p", "completions": ["a", "b"]}\n'
        sent = ann.post(f"/projects/{project.id}/items", files={"file": ("a.jsonl", io.BytesIO(row + b" " * 3000))})
        assert sent.status_code == 200
        assert "1 items added" in sent.text
        assert ann.post(f"/projects/{project.id}/items", files={"file": ("a.jsonl", io.BytesIO(row * 200))}).status_code == 413
        assert len(list(house.ratings.items(project.id))) == 6


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
def test_erasing_takes_the_person_and_leaves_the_judgments(house: House) -> None:
    project = house.project()
    bob = house.account("Robert Unusual", "rater", project)
    client = house.client("Robert Unusual")
    held = client.api(f"/projects/{project.id}/assignments").json()["assignments"][0]["id"]
    client.api(f"/projects/{project.id}/judgments", {"assignment": held, "key": "12345678", "answer": {"ranking": [[0], [1]]}})
    exported = client.post("/me/export")
    assert exported.json()["account"]["name"] == "Robert Unusual"
    assert "argon2" not in exported.text
    assert client.post("/me/erase", {"password": "wrong password"}).status_code == 401
    assert client.post("/me/erase", {"password": PASSWORD}).status_code == 303
    assert house.client().sign_in("Robert Unusual").status_code == 401
    (entry,) = house.ratings.judgments(project.id)
    assert entry.pseudonym == bob.pseudonym
    house.account("ann", "owner", project)
    assert "Robert" not in house.client("ann").get("/audit").text

"""Links that outlive a restart and serve every process; taking somebody, or an item, out of a project."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from playwright.sync_api import expect

from palate.ratings import Answer
from tests.support.house import PASSWORD, House
from tests.support.waiting import LIMIT_SECONDS, ended, wait_until
from tests.web.conftest import Sit, both


@contextmanager
def label(folder: Path) -> Iterator[tuple[str, str]]:
    """(address, token of the set-up link or "") of a server that `palate label` started; ended as a crash ends it."""
    words = [sys.executable, "-m", "palate", "label", "--ratings", str(folder / "ratings.db"), "--port", "0"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    assert process.stdout is not None
    said = ""
    while "Ctrl-C" not in said and (line := process.stdout.readline()):
        said += line
    try:
        address = re.search(r"listens at (\S+)", said)
        token = re.search(r"/setup/(\S+)", said)
        assert address is not None, said
        with httpx.Client(base_url=address[1], timeout=LIMIT_SECONDS) as client:
            wait_until(lambda: answers(client))
        yield address[1], token[1] if token else ""
    finally:
        process.send_signal(signal.SIGKILL)
        ended(process)
        process.stdout.close()


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/signin").status_code == 200
    except httpx.ConnectError:
        return False


def test_a_setup_link_works_at_every_process_and_after_a_crash(tmp_path: Path) -> None:
    with label(tmp_path) as (_, first):
        pass
    with label(tmp_path) as (here, second), label(tmp_path) as (there, third):
        assert len({first, second, third, ""}) == 4
        for token in (first, second, third):
            assert httpx.get(f"{there}/setup/{token}", timeout=LIMIT_SECONDS).status_code == 200
        made = httpx.post(f"{here}/setup/{first}", data={"name": "Ann", "password": PASSWORD}, timeout=LIMIT_SECONDS)
        assert made.status_code == 303
        for token in (first, second, third):  # one owner, however many links there were
            again = httpx.post(f"{there}/setup/{token}", data={"name": "Eve", "password": PASSWORD}, timeout=LIMIT_SECONDS)
            assert again.status_code == 404
    with label(tmp_path) as (_, none):
        assert none == ""


@both
def test_a_password_link_works_once_and_ends_what_was_before(house: House) -> None:
    house.account("ann", "owner")
    bob = house.account("bob")
    ann, old = house.client("ann"), house.client("bob")
    links = []
    for _ in range(2):
        made = re.search(r"/passwords/[\w-]{20,}", ann.post(f"/accounts/{bob.id}/newpassword").text)
        assert made is not None
        links.append(made[0])
    assert house.client().get(links[0]).status_code == 404  # the second link ended the first
    new = house.client()
    assert "A new password" in new.get(links[1]).text
    assert new.post(links[1], {"password": "short"}).status_code == 422  # which does not use it up
    assert new.post(links[1], {"password": "another four words"}).status_code == 303
    assert new.get("/api/session").json()["name"] == "bob"
    assert old.get("/api/session").status_code == 401
    assert house.client().post(links[1], {"password": "yet another four words"}).status_code == 404
    assert house.client().sign_in("bob").status_code == 401
    assert house.client().sign_in("bob", "another four words").status_code == 303


def removal(house: House) -> tuple[str, str]:
    project = house.project(items=3)
    house.account("ann", "owner", project)
    house.account("bob", "rater", project)
    house.account("eve", "rater", project)
    return project.id, house.accounts["bob"].id


@both
def test_an_owner_takes_somebody_out_of_a_project(house: House, sit: Sit) -> None:
    project, bob_id = removal(house)
    bob, eve = house.client("bob"), house.client("eve")
    held = [one["id"] for one in bob.api(f"/projects/{project}/assignments").json()["assignments"]]
    body = {"assignment": held[0], "key": "12345678", "answer": {"ranking": [[0], [1]]}}
    assert bob.api(f"/projects/{project}/judgments", body).status_code == 200
    assert len(eve.api(f"/projects/{project}/assignments").json()["assignments"]) == 1  # bob holds the other
    page = sit("ann", f"/projects/{project}/people")
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.accept()))
    page.get_by_role("button", name="Remove bob from this project").click()
    expect(page.get_by_text("bob is no longer in this project")).to_be_visible()
    assert "bob" in asked[0]
    expect(page.get_by_role("button", name="Remove bob from this project")).to_have_count(0)
    assert bob.get(f"/projects/{project}").status_code == 404
    assert bob.api(f"/projects/{project}/assignments").status_code == 404
    assert bob.get("/me").status_code == 200  # the account stays, with what is owed
    assert len(eve.api(f"/projects/{project}/assignments").json()["assignments"]) == 2
    assert len(list(house.ratings.judgments(project))) == 1
    (entry,) = [one for one in house.ratings.audit_log() if one.action == "removed from project"]
    assert (entry.actor, entry.subject, entry.detail) == (house.accounts["ann"].id, bob_id, {"project": project, "released": 1})


def test_removal_by_the_api(house: House) -> None:
    project, bob_id = removal(house)
    ann, eve = house.client("ann"), house.client("eve")
    assert [one["name"] for one in ann.api(f"/projects/{project}/members", method="GET").json()] == ["ann", "bob", "eve"]
    path = f"/projects/{project}/members/{bob_id}"
    assert eve.api(path, method="DELETE").status_code == 403
    assert ann.http.delete(f"/api{path}").status_code == 403  # without the CSRF token
    assert ann.api(path, method="DELETE").json() == {"released": 0}
    assert ann.api(path, method="DELETE").status_code == 404
    assert [one["name"] for one in ann.api(f"/projects/{project}/members", method="GET").json()] == ["ann", "eve"]


@both
def test_whoever_was_removed_comes_back_by_no_link_that_was_ended(house: House) -> None:
    project, bob_id = removal(house)
    ann, bob = house.client("ann"), house.client("bob")
    made = ann.post(f"/projects/{project}/invitations", {"role": "rater", "uses": "9", "days": "1"}).text
    link = re.search(r"/invitations/[\w-]{20,}", made)
    assert link is not None
    ann.post(f"/projects/{project}/people/{bob_id}/remove")
    assert "1 invitation is open" in ann.get(f"/projects/{project}/people").text
    assert ann.post(f"/projects/{project}/invitations/end").status_code == 303
    assert "invitation is open" not in ann.get(f"/projects/{project}/people").text
    assert bob.post(link[0]).status_code == 404
    assert bob_id not in [account.id for account in house.ratings.accounts(project)]


def test_a_flagged_item_is_taken_out_by_the_owner(house: House, sit: Sit) -> None:
    project = house.project(items=2)
    bob = house.account("bob", "rater", project)
    house.account("ann", "owner", project)
    held = house.ratings.claim(project.id, bob.id, house.clock(), house.service.random)
    assert held is not None
    house.ratings.submit(held.id, bob.id, Answer(skipped=True, flag="private"), "key", house.clock())
    page = sit("ann", f"/projects/{project.id}/review")
    page.get_by_role("link", name="Decide").click()
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Take the item out").click()
    expect(page.get_by_text("Nothing to decide")).to_be_visible()
    assert held.item not in [item.id for item in house.ratings.items(project.id)]
    assert house.ratings.progress(project.id, house.clock()).items == 1

"""Links that outlive a restart and serve every process; taking somebody, or an item, out of a project."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from playwright.sync_api import expect

from palate.ratings import Answer
from tests.support.rating_server import PASSWORD, RatingServer
from tests.support.waiting import LIMIT_SECONDS, ended, wait_until
from tests.support.warm_python import executable
from tests.web.conftest import Sit, both


@contextmanager
def label(folder: Path) -> Iterator[tuple[str, str]]:
    """(address, token of the set-up link or "") of a server that `palate label` started; ended as a crash ends it."""
    words = [executable(), "-m", "palate", "label", "--ratings", str(folder / "ratings.db"), "--port", "0"]
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
def test_a_password_link_works_once_and_ends_what_was_before(server: RatingServer) -> None:
    server.account("ann", "owner")
    bob = server.account("bob")
    ann, old = server.client("ann"), server.client("bob")
    links = []
    for _ in range(2):
        made = re.search(r"/passwords/[\w-]{20,}", ann.post(f"/accounts/{bob.id}/newpassword").text)
        assert made is not None
        links.append(made[0])
    assert server.client().get(links[0]).status_code == 404  # the second link ended the first
    new = server.client()
    assert "A new password" in new.get(links[1]).text
    assert new.post(links[1], {"password": "short"}).status_code == 422  # which does not use it up
    assert new.post(links[1], {"password": "another four words"}).status_code == 303
    assert new.get("/api/session").json()["name"] == "bob"
    assert old.get("/api/session").status_code == 401
    assert server.client().post(links[1], {"password": "yet another four words"}).status_code == 404
    assert server.client().sign_in("bob").status_code == 401
    assert server.client().sign_in("bob", "another four words").status_code == 303


def removal(server: RatingServer) -> tuple[str, str]:
    project = server.project(items=3)
    server.account("ann", "owner", project)
    server.account("bob", "rater", project)
    server.account("eve", "rater", project)
    return project.id, server.accounts["bob"].id


@both
def test_an_owner_takes_somebody_out_of_a_project(server: RatingServer, sit: Sit) -> None:
    project, bob_id = removal(server)
    bob, eve = server.client("bob"), server.client("eve")
    held = [one["id"] for one in bob.api(f"/projects/{project}/assignments").json()["assignments"]]
    body = {"assignment": held[0], "key": "12345678", "answer": {"ranking": [[0], [1]]}}
    assert bob.api(f"/projects/{project}/judgments", body).status_code == 200
    assert len(eve.api(f"/projects/{project}/assignments").json()["assignments"]) == 1  # bob holds the other
    page = sit("ann", f"/projects/{project}/people")
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.accept()))
    page.get_by_role("button", name="Remove bob from this project").click()
    expect(page.get_by_text("bob has left this project")).to_be_visible()
    assert "bob" in asked[0]
    expect(page.get_by_role("button", name="Remove bob from this project")).to_have_count(0)
    assert bob.get(f"/projects/{project}").status_code == 404
    assert bob.api(f"/projects/{project}/assignments").status_code == 404
    assert bob.get("/me").status_code == 200  # the account stays, with what is owed
    assert len(eve.api(f"/projects/{project}/assignments").json()["assignments"]) == 2
    assert len(list(server.ratings.judgments(project))) == 1
    (entry,) = [one for one in server.ratings.audit_log() if one.action == "removed from project"]
    assert (entry.actor, entry.subject, entry.detail) == (server.accounts["ann"].id, bob_id, {"project": project, "released": 1})


def test_removal_by_the_api(server: RatingServer) -> None:
    project, bob_id = removal(server)
    ann, eve = server.client("ann"), server.client("eve")
    assert [one["name"] for one in ann.api(f"/projects/{project}/members", method="GET").json()] == ["ann", "bob", "eve"]
    path = f"/projects/{project}/members/{bob_id}"
    assert eve.api(path, method="DELETE").status_code == 403
    assert ann.http.delete(f"/api{path}").status_code == 403  # without the CSRF token
    assert ann.api(path, method="DELETE").json() == {"released": 0}
    assert ann.api(path, method="DELETE").status_code == 404
    assert [one["name"] for one in ann.api(f"/projects/{project}/members", method="GET").json()] == ["ann", "eve"]


@both
def test_whoever_was_removed_comes_back_by_no_link_that_was_ended(server: RatingServer) -> None:
    project, bob_id = removal(server)
    ann, bob = server.client("ann"), server.client("bob")
    made = ann.post(f"/projects/{project}/invitations", {"role": "rater", "uses": "9", "days": "1"}).text
    link = re.search(r"/invitations/[\w-]{20,}", made)
    assert link is not None
    ann.post(f"/projects/{project}/people/{bob_id}/remove")
    assert "1 invitation is open" in ann.get(f"/projects/{project}/people").text
    assert ann.post(f"/projects/{project}/invitations/end").status_code == 303
    assert "invitation is open" not in ann.get(f"/projects/{project}/people").text
    assert bob.post(link[0]).status_code == 404
    assert bob_id not in [account.id for account in server.ratings.accounts(project)]


def test_a_flagged_item_is_taken_out_by_the_owner(server: RatingServer, sit: Sit) -> None:
    project = server.project(items=2)
    bob = server.account("bob", "rater", project)
    server.account("ann", "owner", project)
    held = server.ratings.claim(project.id, bob.id, server.clock(), server.service.random)
    assert held is not None
    server.ratings.submit(held.id, bob.id, Answer(skipped=True, flag="private"), "key", server.clock())
    page = sit("ann", f"/projects/{project.id}/review")
    page.get_by_role("link", name="Decide").click()
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Take the item out").click()
    expect(page.get_by_text("Nothing to decide")).to_be_visible()
    assert held.item not in [item.id for item in server.ratings.items(project.id)]
    assert server.ratings.progress(project.id, server.clock()).items == 1

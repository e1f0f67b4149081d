"""What the server refuses stays with the person, and every reason that a page gives is the true one."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from palate.core import Message
from palate.ratings import Account, Answer, Candidate, Item, Task
from palate.web.api_models import LONGEST_REASON, LONGEST_TEXT
from tests.support.rating_server import PASSWORD, RatingServer, open_rating_server
from tests.web.conftest import Sit, idle, intercept
from tests.web.test_judging import at_desk, question, ready, said, settled


def test_a_text_that_is_too_long_is_told_before_it_is_sent_and_kept(server: RatingServer, sit: Sit) -> None:
    project = server.project(items=0, task=Task("write"))
    server.ratings.add_items(project.id, [Item((Message("user", "Shorten."),), (Candidate("word " * 14_000),))], server.clock())
    server.account("bob", "rater", project)
    page = at_desk(sit, "bob", project)
    expect(page.locator("#hint")).to_contain_text("can have 60,000 characters. Shorten it by 10,000.")
    text = "\U0001f96c" * LONGEST_TEXT  # two units of JavaScript each, one character for people and the server
    page.locator("#text").fill(text + "EDITED")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#hint")).to_contain_text("Shorten it by 6.")
    assert said(server, project) == []
    page.reload()
    ready(page)
    assert page.locator("#text").input_value() == text + "EDITED"
    page.locator("#text").fill(text)
    page.keyboard.press("Control+Enter")
    settled(page)
    assert said(server, project)[0].answer.text == text


@pytest.mark.parametrize("status", [422, 413, 409])
def test_a_refused_answer_comes_back_with_its_item(server: RatingServer, sit: Sit, status: int) -> None:
    project = server.project(items=3, task=Task(reason="required"))
    server.account("bob", "rater", project)
    page = at_desk(sit, "bob", project)
    refused = question(page)
    intercept(page, "**/judgments", lambda route: route.fulfill(status=status, json={"detail": "The answer does not fit."}), times=1)
    fill(page, "1", "my reason")
    expect(page.locator("#strip")).to_contain_text("The answer does not fit. It is kept, and its item comes back")
    expect(page.get_by_role("button", name="Copy what you wrote")).to_be_visible()
    assert question(page) != refused
    fill(page, "2", "another")
    expect(page.locator(".asked")).to_have_text(refused)
    expect(page.locator("#strip")).to_contain_text("refused. The answer does not fit. Change it")
    expect(page.locator("#reason")).to_have_value("my reason")
    expect(page.locator("input[name='dimension-0']:checked")).to_have_value("1")
    page.keyboard.press("Enter")
    settled(page)
    assert [one.answer.reason for one in said(server, project)] == ["another", "my reason"]
    idle(page)
    drafts = "Object.keys(localStorage).filter((name) => name.startsWith('palate:draft')).length"
    assert page.evaluate(drafts) <= 1  # of the item that is shown


@pytest.mark.parametrize("is_reloaded", [False, True])
def test_the_last_answer_refused_is_kept(server: RatingServer, sit: Sit, is_reloaded: bool) -> None:
    """On the page, and after it was loaded again."""
    project = server.project(items=1, task=Task("write"))
    server.account("bob", "rater", project)
    page = at_desk(sit, "bob", project)
    intercept(page, "**/judgments", lambda route: route.fulfill(status=422, body="<p>no JSON</p>"), times=1)
    page.locator("#text").fill("all my work")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#strip")).to_contain_text("The server cannot take it (status 422)")
    if is_reloaded:
        page.reload()
        ready(page)
    expect(page.locator("#text")).to_have_value("all my work")
    page.locator("#text").focus()
    page.keyboard.press("Control+Enter")
    settled(page)
    assert said(server, project)[0].answer.text == "all my work"


def test_signing_out_keeps_the_draft_of_an_answer_that_was_not_sent(server: RatingServer, sit: Sit) -> None:
    project = server.project(items=2, task=Task("write"))
    server.account("bob", "rater", project)
    page = at_desk(sit, "bob", project)
    intercept(page, "**/judgments", lambda route: route.abort())
    for text in ("unsent", "unfinished"):
        page.locator("#text").fill(text)
        if text == "unsent":
            page.locator("#text").press("Control+Enter")
            expect(page.locator("#strip")).to_contain_text("kept on this device")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/signin")
    drafts = "Object.keys(localStorage).filter((name) => name.startsWith('palate:draft')).map((name) => localStorage[name])"
    (draft,) = page.evaluate(drafts)
    assert '"unsent"' in draft


def fill(page: Page, key: str, reason: str) -> None:
    page.keyboard.press(key)
    page.locator("#reason").fill(reason)
    page.keyboard.press("Control+Enter")


def test_two_tabs_of_one_person(server: RatingServer, sit: Sit) -> None:
    project = server.project(items=3)
    server.account("bob", "rater", project)
    first = at_desk(sit, "bob", project)
    second = first.context.new_page()
    second.goto(first.url)
    ready(second)
    for page, key in ((first, "1"), (second, "2")):
        page.keyboard.press(key)
        page.keyboard.press("Enter")
        settled(page)
    expect(second.locator("#strip")).to_contain_text("You have answered this in another tab")
    assert len([one for one in said(server, project) if one.status == "kept"]) == 1


@pytest.mark.parametrize("cause", ["answered", "removed", "left", "taken", "viewed", ""])
def test_a_receipt_says_why_an_answer_does_not_count(server: RatingServer, cause: str) -> None:
    project = server.project(items=1)
    bob, eve = server.account("bob", "reviewer", project), server.account("eve", "rater", project)
    client = server.client("bob")
    held = client.api(f"/projects/{project.id}/assignments").json()["assignments"][0]["id"]
    item = server.ratings.assignment(held).item

    def answer(by: Account, key: str) -> None:
        claimed = server.ratings.claim(project.id, by.id, server.clock(), server.service.random)
        assert claimed is not None
        server.ratings.submit(claimed.id, by.id, Answer(ranking=((0,), (1,))), key, server.clock())

    if cause == "answered":
        answer(bob, "the first key")
    if cause == "removed":
        server.ratings.remove_item(item, server.clock())
    if cause == "left":
        server.clock.ahead = 10_000
        assert server.ratings.claim(project.id, eve.id, server.clock(), server.service.random) is not None
        server.ratings.leave(project.id, bob.id)
        server.ratings.join(project.id, eve.id, server.clock())
    if cause in {"taken", "viewed"}:
        server.clock.ahead = 10_000
        answer(eve, "the key of eve")
    if cause == "viewed":
        assert server.ratings.view_answers(item, bob.id, server.clock())
    body = {"assignment": held, "key": "87654321", "answer": {"ranking": [[0], [1]]}}
    path = f"/projects/{project.id}/judgments"
    if cause == "left":  # the page cannot send it any more, and the store says why
        receipt = server.ratings.submit(held, bob.id, Answer(ranking=((0,), (1,))), "87654321", server.clock())
        assert (receipt.status, receipt.cause) == ("surplus", "left")
        assert client.api(path, body).status_code == 404
        return
    receipt_body = client.api(path, body).json()
    assert (receipt_body["status"], receipt_body["cause"]) == ("surplus" if cause else "kept", cause)


@pytest.mark.parametrize("kind", ["rule", "compare", "rank"])
def test_names_with_line_ends_can_be_answered(server: RatingServer, sit: Sit, kind: str) -> None:
    """HTML changes the line ends in an attribute. So a page does not send back a name that it got by way of HTML."""
    names = ("No advice.\r\nNone at all.", " \rsecond\t")
    task = Task(kind, rules=names[:1]) if kind == "rule" else Task(kind, dimensions=names)  # type: ignore[arg-type]
    project = server.project(items=1, task=task)
    server.account("bob", "rater", project)
    page = at_desk(sit, "bob", project)
    for key in "12341234" if kind == "rank" else "12":
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    settled(page)
    (entry,) = said(server, project)
    if kind == "rule":
        assert (entry.answer.broken, entry.answer.rule) == (False, names[0])
    else:
        assert list(entry.answer.dimensions) == [names[1]]


def test_a_form_gives_lines_as_they_were_written(server: RatingServer, sit: Sit) -> None:
    server.account("ann", "owner")
    project = server.project()
    page = sit("ann", f"/projects/{project.id}")
    page.get_by_text("Write a new version").click()
    page.locator("#text").fill("\n\nOne.\nTwo.")
    page.get_by_role("button", name="Save as version").click()
    expect(page.get_by_role("heading", name="Guidelines")).to_contain_text("version")
    page.get_by_text("Write a new version").click()
    assert server.ratings.guideline(project.id).text == "\n\nOne.\nTwo."
    assert page.locator("#text").input_value() == "\n\nOne.\nTwo."


@pytest.mark.parametrize(("name", "limit"), [("reason", LONGEST_REASON), ("text", LONGEST_TEXT)])
def test_a_long_decision_is_refused_and_not_cut(server: RatingServer, name: str, limit: int) -> None:
    project = server.project(items=0, task=Task("write"))
    (item,) = server.ratings.add_items(project.id, [Item((Message("user", "Write."),), ())], server.clock()).ids
    server.account("rev", "reviewer", project)
    path, rev = f"/projects/{project.id}/review/{item}", server.client("rev")
    long = {"text": "x", "reason": "", name: "a" * limit + "b"}
    refused = rev.post(path, long)
    assert (refused.status_code, f"has {limit + 1} characters" in refused.text, "ab</textarea>" in refused.text) == (422, True, True)
    assert rev.post(path, {**long, name: "a" * limit}).status_code == 303


def test_a_file_can_be_downloaded_again(server: RatingServer, sit: Sit) -> None:
    project = server.project()
    server.account("ann", "owner", project)
    page = sit("ann", f"/projects/{project.id}", accept_downloads=True)
    names = []
    for kind in ("palate", "csv", "csv"):
        page.select_option("#kind", kind)
        with page.expect_download() as download:
            page.get_by_role("button", name="Download").click()
        names.append(download.value.suggested_filename.rpartition(".")[2])
    page.goto(f"{server.url}/me")
    for _ in range(2):
        with page.expect_download() as download:
            page.get_by_role("button", name="Export my data").click()
        names.append(download.value.suggested_filename.rpartition(".")[2])
    assert names == ["jsonl", "csv", "csv", "json", "json"]


def test_a_sign_in_leads_to_the_page_that_was_asked_for(server: RatingServer, sit: Sit, browser: Browser) -> None:
    project = server.project()
    server.account("bob", "rater", project)
    page = browser.new_context().new_page()
    page.goto(f"{server.url}/projects/{project.id}/rate?from=mail&n=%26")
    page.fill("#name", "bob")
    for password in ("a wrong password", PASSWORD):
        page.fill("#password", password)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_load_state()
    assert page.url == f"{server.url}/projects/{project.id}/rate?from=mail&n=%26"
    page.context.close()


@pytest.mark.parametrize(
    ("wanted", "reached"),
    [("/me", "/me"), ("/audit?x=1", "/audit?x=1"), ("https://evil.example/", "/"), ("//evil.example/", "/"), ("/\\evil.example", "/"),
     ("/\t/evil.example", "/"), ("/a\r\nSet-Cookie: x=1", "/"), ("javascript:alert(1)", "/"), ("", "/"), ("evil.example", "/")],
)  # fmt: skip
def test_a_sign_in_leads_to_no_other_site(server: RatingServer, wanted: str, reached: str) -> None:
    server.account("bob")
    answer = server.client().http.post("/signin", data={"name": "bob", "password": PASSWORD}, params={"next": wanted})
    assert (answer.status_code, answer.headers["location"]) == (303, reached)
    signed = server.client("bob").http.get("/signin", params={"next": wanted})
    assert signed.headers["location"] == reached


def test_a_form_sent_too_late_leads_back_to_its_page(server: RatingServer) -> None:
    client = server.client()
    for referer, wanted in (
        ("{}/projects/new?x=1", "/signin?next=/projects/new%3Fx%3D1"),
        ("https://evil.example/a", "/signin"),
        ("", "/signin"),
    ):
        answer = client.http.post("/projects", data={"name": "P"}, headers={"Referer": referer.format(server.url)})
        assert answer.headers["location"] == wanted
    link = client.http.get("/me").headers["location"]
    assert link == "/signin?next=/me"


def test_an_invited_account_signs_in_and_joins(server: RatingServer) -> None:
    project = server.project()
    server.account("ann", "owner", project)
    server.account("bob")
    made = server.client("ann").post(f"/projects/{project.id}/invitations", {"role": "rater", "uses": "1", "days": "1"}).text
    link = made.partition('id="link">')[2].partition("<")[0].removeprefix(server.url)
    client = server.client()
    offered = client.get(link).text.partition('<a href="/signin')[2].partition('"')[0]
    answer = client.http.post("/signin" + offered, data={"name": "bob", "password": PASSWORD})
    assert answer.headers["location"] == link


def test_two_servers_on_one_host_leave_each_other_alone(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with open_rating_server(tmp_path) as one, open_rating_server(tmp_path / "other") as two:
        client = one.client()
        for server, name in ((one, "ann"), (two, "bob")):
            server.account(name)
            assert client.http.post(f"{server.url}/signin", data={"name": name, "password": PASSWORD}).status_code == 303
        names = [client.http.get(f"{server.url}/api/session").json()["name"] for server in (one, two, one)]
        assert names == ["ann", "bob", "ann"]
        assert client.http.get(f"{two.url}/projects/x/rate").status_code == 404
        two.ratings.end_sessions(two.accounts["bob"].id)
        assert client.http.get(f"{two.url}/me").headers["location"] == "/signin?next=/me"
        assert client.http.get(f"{one.url}/api/session").json()["name"] == "ann"
        assert client.http.get(f"{one.url}/me", headers={"Host": "elsewhere"}).status_code == 303  # another address, another cookie

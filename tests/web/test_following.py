"""What follows an answer comes with its receipt: one request a judgment."""

from __future__ import annotations

from playwright.sync_api import Page, Route, expect

from palate.core import Message
from palate.ratings import Candidate, Item
from tests.support.rating_server import RatingServer
from tests.web.conftest import Sit, intercept
from tests.web.test_judging import at_desk, question, ready, said, settled

CHOICE = {"ranking": [[0], [1]]}


def answered(page: Page, *keys: str) -> None:
    """The answer by these keys (the first is better, and send) has arrived, and the next item is shown."""
    before = question(page)
    for key in keys or ("1", "Enter"):
        page.keyboard.press(key)
    expect(page.locator(".asked")).not_to_have_text(before)
    ready(page)  # with new guidelines the page has loaded anew
    settled(page)


def test_a_receipt_brings_the_items_that_the_page_does_not_have(server: RatingServer) -> None:
    project = server.project(items=4)
    server.account("bob", "rater", project)
    bob = server.client("bob")
    first, second = bob.api(f"/projects/{project.id}/assignments").json()["assignments"]
    path = f"/projects/{project.id}/judgments"
    said = {"assignment": first["id"], "key": "a" * 16, "answer": CHOICE}
    third = bob.api(path, said | {"held": [second["id"]]}).json()
    assert third["status"] == "kept"
    assert [one["id"] for one in third["assignments"]] == [
        one["id"] for one in bob.api(f"/projects/{project.id}/assignments", {"held": [second["id"]]}).json()["assignments"]
    ]
    again = bob.api(path, said | {"held": []}).json()
    assert again["status"] == "repeat"
    assert [one["id"] for one in again["assignments"]] == [second["id"], third["assignments"][0]["id"]]
    unasked = bob.api(path, {"assignment": second["id"], "key": "b" * 16, "answer": CHOICE}).json()
    assert (unasked["status"], unasked["assignments"]) == ("kept", [])


def test_the_last_receipt_brings_nothing(server: RatingServer) -> None:
    project = server.project(items=1)
    server.account("bob", "rater", project)
    bob = server.client("bob")
    (only,) = bob.api(f"/projects/{project.id}/assignments").json()["assignments"]
    receipt = bob.api(f"/projects/{project.id}/judgments", {"assignment": only["id"], "key": "a" * 16, "answer": CHOICE, "held": []}).json()
    assert (receipt["status"], receipt["assignments"]) == ("kept", [])


def test_the_page_sends_one_request_a_judgment(server: RatingServer, sit: Sit) -> None:
    project = server.project(items=12)
    server.account("bob", "rater", project)
    page = at_desk(sit, "bob", project)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url.rsplit("/", 1)[1]) if request.method == "POST" else None)
    for _ in range(8):
        answered(page)
    assert sent == ["judgments"] * 8
    assert len({entry.item for entry in said(server, project)}) == 8


def test_new_guidelines_are_shown_before_anybody_judges_by_them(server: RatingServer, sit: Sit) -> None:
    project = server.project(items=6)
    server.account("bob", "rater", project)
    page = at_desk(sit, "bob", project)
    server.ratings.set_guideline(project.id, "Look at the **facts** only.", server.clock())
    for _ in range(4):
        answered(page)
    expect(page.locator("#guidelines")).to_contain_text("facts")
    assert [entry.guideline for entry in said(server, project)] == [1, 1, 2, 2]


def test_an_undo_whose_reply_was_lost_takes_back_one_answer(server: RatingServer, sit: Sit) -> None:
    project = server.project(items=6)
    server.account("bob", "rater", project)
    page = at_desk(sit, "bob", project)
    for _ in range(3):
        answered(page)

    def arrive_and_be_lost(route: Route) -> None:
        route.fetch()
        route.abort()

    intercept(page, "**/undo", arrive_and_be_lost)
    page.keyboard.press("u")
    expect(page.locator("#strip")).to_contain_text("did not answer")
    page.unroute("**/undo")
    page.keyboard.press("u")
    expect(page.locator("#strip")).to_contain_text("Taken back")
    expect(page.locator("#pace")).to_contain_text("2 judged")
    assert len(said(server, project)) == 2


def test_a_skip_taken_back_leaves_the_count(server: RatingServer, sit: Sit) -> None:
    project = server.project(items=3)
    server.account("bob", "rater", project)
    page = at_desk(sit, "bob", project)
    answered(page)
    answered(page, "s")
    page.keyboard.press("u")
    expect(page.locator("#strip")).to_contain_text("Taken back")
    expect(page.locator("#pace")).to_contain_text("1 judged")


def test_the_last_item_skipped_comes_again_and_says_so(server: RatingServer, sit: Sit) -> None:
    project = server.project(items=1)
    server.account("bob", "rater", project)
    page = at_desk(sit, "bob", project)
    page.keyboard.press("s")
    expect(page.locator("#strip")).to_contain_text("one that you skipped")
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    settled(page)
    assert [entry.answer.skipped for entry in said(server, project)] == [True, False]


def test_half_a_character_keeps_nobody_from_judging(server: RatingServer) -> None:
    project = server.project(items=0)
    server.ratings.add_items(project.id, [Item((Message("user", "cut \ud83d"),), (Candidate("a \ud83d"), Candidate("b")))], server.clock())
    server.account("bob", "rater", project)
    bob = server.client("bob")
    assert "cut ?" in bob.get(f"/projects/{project.id}/rate").text
    assert "cut ?" in bob.api(f"/projects/{project.id}/assignments").json()["assignments"][0]["html"]

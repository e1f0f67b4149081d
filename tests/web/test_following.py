"""What follows an answer comes with its receipt: one request a judgment."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.support.house import House
from tests.web.conftest import Sit
from tests.web.test_judging import at_desk, question, said, settled

CHOICE = {"ranking": [[0], [1]]}


def test_a_receipt_brings_the_items_that_the_page_does_not_have(house: House) -> None:
    project = house.project(items=4)
    house.account("bob", "rater", project)
    bob = house.client("bob")
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


def test_the_last_receipt_brings_nothing(house: House) -> None:
    project = house.project(items=1)
    house.account("bob", "rater", project)
    bob = house.client("bob")
    (only,) = bob.api(f"/projects/{project.id}/assignments").json()["assignments"]
    receipt = bob.api(f"/projects/{project.id}/judgments", {"assignment": only["id"], "key": "a" * 16, "answer": CHOICE, "held": []}).json()
    assert (receipt["status"], receipt["assignments"]) == ("kept", [])


def test_the_page_sends_one_request_a_judgment(house: House, sit: Sit) -> None:
    project = house.project(items=12)
    house.account("bob", "rater", project)
    page = at_desk(sit, "bob", project)
    sent: list[str] = []
    page.wait_for_timeout(300)
    page.on("request", lambda request: sent.append(request.url.rsplit("/", 1)[1]) if request.method == "POST" else None)
    for _ in range(8):
        before = question(page)
        page.keyboard.press("1")
        page.keyboard.press("Enter")
        expect(page.locator(".asked")).not_to_have_text(before)
        settled(page)
    assert sent == ["judgments"] * 8
    assert len({entry.item for entry in said(house, project)}) == 8

"""People at the desk: a real server, a real Chromium."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from palate.ratings import Answer, JudgmentEntry, Project, Task
from tests.support.rating_server import RatingServer
from tests.web.conftest import Sit, both, idle, intercept, until


def at_desk(sit: Sit, name: str, project: Project, **options: object) -> Page:
    """A page on which the first item can be judged; the second has come, too, where there is one."""
    page = sit(name, f"/projects/{project.id}/rate", **options)
    ready(page)
    idle(page)
    return page


def ready(page: Page) -> None:
    """Waits until an item can be judged. It is drawn by the server; before the page's script has run, keys do nothing."""
    expect(page.locator("#verdict")).to_be_visible()


def said(server: RatingServer, project: Project) -> list[JudgmentEntry]:
    """Answers that stand, as (item, answer) of the store."""
    return [one for one in server.ratings.judgments(project.id) if one.is_standing]


def settled(page: Page) -> None:
    """Waits until every answer has arrived."""
    outbox = (
        "Object.keys(localStorage).filter(k => k.startsWith('palate:outbox')).reduce((n, k) => n + JSON.parse(localStorage[k]).length, 0)"
    )
    until(page, f"{outbox} === 0")


def chosen(entry: JudgmentEntry) -> int:
    """The candidate that an answer put first."""
    return entry.order[entry.answer.ranking[0][0]]


def question(page: Page) -> str:
    return page.locator(".asked").inner_text()


def place_of(page: Page, word: str) -> str:
    """The number key of the completion that begins with a word."""
    return str(1 + int(page.locator(f".answer:has-text('{word} ')").get_attribute("data-place") or -1))


@both
def test_five_items_by_keyboard_alone(server: RatingServer, sit: Sit) -> None:
    project = server.project(items=5, task=Task(all_bad=True, strength=True))
    server.account("bob", "rater", project)
    page = at_desk(sit, "bob", project)
    for _ in range(3):
        page.keyboard.press(place_of(page, "good"))
        page.keyboard.press("w")
        before = question(page)
        page.keyboard.press("Enter")
        expect(page.locator(".asked")).not_to_have_text(before)
    before = question(page)
    page.keyboard.press("=")
    page.keyboard.press("r")
    page.keyboard.type("Both say the same: 1 2 0 s u")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".asked")).not_to_have_text(before)
    expect(page.locator("#reason")).to_have_value("")
    page.keyboard.press("0")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Nothing left for you here")).to_be_visible()
    entries = said(server, project)
    assert [chosen(one) for one in entries[:3]] == [0, 0, 0]
    assert [one.answer.strength for one in entries] == [2, 2, 2, None, None]
    assert entries[3].answer.ranking == ((0, 1),)
    assert entries[3].answer.reason == "Both say the same: 1 2 0 s u"
    assert entries[4].answer.all_bad
    assert len({one.item for one in entries}) == 5
    assert 0 < sum(one.answer.seconds or 0 for one in entries) < page.evaluate("performance.now() / 1000")


def test_what_is_missing_is_said_and_nothing_is_sent(server: RatingServer, sit: Sit) -> None:
    project = server.project(task=Task(dimensions=("helpful", "honest"), reason="required", strength=True))
    server.account("bob", "rater", project)
    page = at_desk(sit, "bob", project)
    for key, words in (
        ("Enter", "helpful"),
        ("1", ""),
        ("Enter", "honest"),
        ("2", ""),
        ("Enter", "q, w or e"),
        ("q", ""),
        ("Enter", "press r"),
    ):
        page.keyboard.press(key)
        if words:
            expect(page.locator("#hint")).to_contain_text(words)
    page.keyboard.press("r")
    page.keyboard.type("shorter")
    page.keyboard.press("Control+Enter")
    settled(page)
    (entry,) = said(server, project)
    assert (entry.answer.ranking, dict(entry.answer.dimensions), entry.answer.strength) == (((0,), (1,)), {"honest": ((1,), (0,))}, 1)


@both
def test_skip_flag_and_undo(server: RatingServer, sit: Sit) -> None:
    project = server.project(items=4)
    server.account("bob", "rater", project)
    page = at_desk(sit, "bob", project)
    before = question(page)
    page.keyboard.press("s")
    expect(page.locator(".asked")).not_to_have_text(before)
    settled(page)
    before = question(page)
    page.keyboard.press("f")
    page.locator("#flagdialog label:has-text('Personal data')").click()
    page.locator("#note").fill("an address")
    page.get_by_role("button", name="Flag and skip").click()
    expect(page.locator(".asked")).not_to_have_text(before)
    settled(page)
    first = question(page)
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(page.locator(".asked")).not_to_have_text(first)
    page.keyboard.press("u")
    expect(page.locator(".asked")).to_have_text(first)
    expect(page.locator("input[name='dimension-0'][value='1']")).to_be_checked()
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    settled(page)
    skipped, flagged, judged = said(server, project)
    assert skipped.answer.skipped
    assert (flagged.answer.skipped, flagged.answer.flag) == (True, "Personal data: an address")
    assert judged.answer.ranking == ((1,), (0,))
    kinds = [one.kind for one in server.ratings.judgments(project.id)]
    assert kinds == ["answer", "answer", "answer", "undo", "answer"]


@both
def test_two_people_race_on_one_item(server: RatingServer, sit: Sit) -> None:
    project = server.project(items=1)
    server.account("bob", "rater", project)
    server.account("eve", "rater", project)
    bob = at_desk(sit, "bob", project)
    eve = sit("eve", f"/projects/{project.id}/rate")
    expect(eve.get_by_text("Nothing left for you here")).to_be_visible()
    server.clock.ahead += project.lease_seconds + 1  # bob went for a walk
    eve.reload()
    expect(eve.locator("#verdict")).to_be_visible()
    eve.keyboard.press("1")
    eve.keyboard.press("Enter")
    settled(eve)
    bob.keyboard.press("2")
    bob.keyboard.press("Enter")
    expect(bob.locator("#strip")).to_contain_text("kept as an extra")
    assert {server.accounts["eve"].id: "kept", server.accounts["bob"].id: "surplus"} == {
        one.rater: one.status for one in said(server, project)
    }


@both
def test_a_double_press_gives_one_judgment(server: RatingServer, sit: Sit) -> None:
    project = server.project(items=1)
    server.account("bob", "rater", project)
    page = at_desk(sit, "bob", project)
    page.keyboard.press("1")
    page.evaluate("for (let i = 0; i < 5; i++) document.getElementById('verdict').requestSubmit()")
    settled(page)
    assert len(list(server.ratings.judgments(project.id))) == 1


@pytest.mark.parametrize("is_lost_on", ["the way there", "the way back"])
def test_a_lost_network_loses_and_doubles_nothing(server: RatingServer, sit: Sit, is_lost_on: str) -> None:
    project = server.project(items=3)
    server.account("bob", "rater", project)
    page = at_desk(sit, "bob", project)
    tries = []

    def broken(route: object) -> None:
        tries.append(route.request.post_data_json["key"])  # type: ignore[attr-defined]
        if is_lost_on == "the way back":
            route.fetch()  # type: ignore[attr-defined]
        route.abort()  # type: ignore[attr-defined]

    intercept(page, "**/judgments", broken)
    first = question(page)
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(page.locator("#strip")).to_contain_text("kept on this device")
    expect(page.locator(".asked")).not_to_have_text(first)  # work goes on
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    page.unroute_all(behavior="wait")
    page.evaluate("dispatchEvent(new Event('online'))")
    settled(page)
    expect(page.locator("#strip")).to_be_hidden()
    idle(page)
    entries = list(server.ratings.judgments(project.id))
    assert [one.answer.ranking for one in entries] == [((0,), (1,)), ((1,), (0,))]
    assert len(set(tries)) == 1


def test_answers_survive_a_closed_page(server: RatingServer, sit: Sit) -> None:
    project = server.project(items=2)
    server.account("bob", "rater", project)
    page = at_desk(sit, "bob", project)
    intercept(page, "**/judgments", lambda route: route.abort())
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(page.locator("#strip")).to_contain_text("kept on this device")
    page.unroute_all(behavior="wait")
    page.reload()
    settled(page)
    assert len(said(server, project)) == 1
    ready(page)


def test_a_revoked_session_keeps_the_answer_until_the_next(server: RatingServer, sit: Sit) -> None:
    project = server.project(items=2)
    server.account("bob", "rater", project)
    page = at_desk(sit, "bob", project)
    server.ratings.end_sessions(server.accounts["bob"].id)
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(page.locator("#strip")).to_contain_text("You are signed out. 1 answer is kept")
    page.context.add_cookies([{"name": server.cookie_name, "value": server.cookie("bob"), "url": server.url}])
    page.evaluate("dispatchEvent(new Event('online'))")  # the page's CSRF token is the old session's: it fetches the new one
    settled(page)
    assert [one.status for one in said(server, project)] == ["kept"]


def test_the_draft_is_there_after_a_reload_and_the_back_button(server: RatingServer, sit: Sit) -> None:
    project = server.project(items=3)
    server.account("bob", "rater", project)
    page = at_desk(sit, "bob", project)
    page.keyboard.press("2")
    page.keyboard.press("r")
    page.keyboard.type("because it is")
    first = question(page)
    page.goto(f"{server.url}/projects/{project.id}")
    page.go_back()
    expect(page.locator(".asked")).to_have_text(first)
    expect(page.locator("#reason")).to_have_value("because it is")
    expect(page.locator("input[name='dimension-0'][value='2']")).to_be_checked()
    page.locator("#reason").press("Control+Enter")
    settled(page)
    page.go_back()
    page.go_forward()
    expect(page.locator(".asked")).not_to_have_text(first)
    assert len(said(server, project)) == 1


def overdue(server: RatingServer, sit: Sit, project: Project) -> Page:
    """Bob's page when the time for his item has run out, by its own clock and by the server's."""
    page = sit("bob")
    page.clock.install()
    page.goto(f"{server.url}/projects/{project.id}/rate")
    ready(page)
    idle(page)
    server.clock.ahead += project.lease_seconds + 1
    page.clock.fast_forward(1000 * (project.lease_seconds + 1))
    expect(page.locator("#strip")).to_contain_text("has run out")
    return page


@both
def test_an_expired_lease_is_told_and_the_answer_kept(server: RatingServer, sit: Sit) -> None:
    project = server.project(items=1)
    server.account("bob", "rater", project)
    page = overdue(server, sit, project)
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    settled(page)
    assert [one.status for one in said(server, project)] == ["kept"]


def test_an_answer_to_what_somebody_else_has_got_is_kept_as_an_extra(server: RatingServer, sit: Sit) -> None:
    project = server.project(items=1)
    server.account("bob", "rater", project)
    ann = server.account("ann", "rater", project)
    page = overdue(server, sit, project)
    assert server.ratings.claim(project.id, ann.id, server.clock(), server.service.random) is not None
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(page.locator("#strip")).to_contain_text("kept as an extra")
    assert [one.status for one in said(server, project)] == ["surplus"]


@both
def test_ranking_by_keyboard(server: RatingServer, sit: Sit) -> None:
    project = server.project(items=1, task=Task(kind="rank"))
    server.account("bob", "rater", project)
    page = at_desk(sit, "bob", project)
    page.keyboard.press("Enter")
    expect(page.locator("#hint")).to_contain_text("Rank every completion")
    for key in "3=142":  # 3 and 1 level, then 4, then 2
        page.keyboard.press(key)
    page.keyboard.press("Backspace")
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    settled(page)
    assert said(server, project)[0].answer.ranking == ((0, 2), (3,), (1,))


def test_ranking_by_arrows_on_a_chip(server: RatingServer, sit: Sit) -> None:
    project = server.project(items=1, task=Task(kind="rank"))
    server.account("bob", "rater", project)
    page = at_desk(sit, "bob", project)
    for key in "1234":
        page.keyboard.press(key)
    page.locator(".chipbutton[data-place='3']").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("=")  # level with 2
    expect(page.locator("#live")).to_have_text("Best first: 1, then 2 level with 4, then 3")
    page.locator("#verdict button[type=submit]").click()
    settled(page)
    assert said(server, project)[0].answer.ranking == ((0,), (1, 3), (2,))


def drag(page: Page, place: int, target: str, board: str = ".board ") -> None:
    source, end = page.locator(f"{board}.chipbutton[data-place='{place}']").bounding_box(), page.locator(target).bounding_box()
    assert source is not None
    assert end is not None
    page.mouse.move(source["x"] + 20, source["y"] + 20)
    page.mouse.down()
    page.mouse.move(source["x"] + 40, source["y"] + 25, steps=3)
    page.mouse.move(end["x"] + end["width"] / 2, end["y"] + end["height"] / 2, steps=4)
    page.mouse.up()


def test_ranking_by_drag(server: RatingServer, sit: Sit) -> None:
    project = server.project(items=1, task=Task(kind="rank"))
    server.account("bob", "rater", project)
    page = at_desk(sit, "bob", project)
    drag(page, 2, ".tiers")
    drag(page, 0, "[data-gap='0']")  # before it
    drag(page, 3, "[data-tier='1']")  # level with it
    drag(page, 1, "[data-gap='2']")
    expect(page.locator(".tray .chipbutton")).to_have_count(0)
    drag(page, 1, ".tray")
    expect(page.locator(".tray .chipbutton")).to_have_count(1)
    drag(page, 1, "[data-gap='1']")
    page.keyboard.press("Enter")
    settled(page)
    assert said(server, project)[0].answer.ranking == ((0,), (1,), (2, 3))


def test_a_rule_and_a_written_answer(server: RatingServer, sit: Sit) -> None:
    rule = server.project("Rules", items=1, task=Task(kind="rule", rules=("Name no dose.",), reason="off"))
    server.account("bob", "rater", rule)
    page = at_desk(sit, "bob", rule)
    expect(page.get_by_text("Name no dose.")).to_be_visible()
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    settled(page)
    entry = said(server, rule)[0]
    assert (entry.answer.broken, entry.answer.rule) == (True, "Name no dose.")
    write = server.project("Write", items=1, task=Task(kind="write", reason="off"))
    server.ratings.join(write.id, server.accounts["bob"].id, server.clock())
    page.goto(f"{server.url}/projects/{write.id}/rate")
    page.locator("#text").fill("# A title\nand text")
    page.keyboard.press("Control+Enter")
    settled(page)
    assert said(server, write)[0].answer.text == "# A title\nand text"


def test_raters_see_neither_policies_nor_each_other(server: RatingServer, sit: Sit) -> None:
    project = server.project(items=1, overlap=2)
    for name in ("bob", "eve"):
        server.account(name, "rater", project)
    server.ratings.submit(
        (held := server.ratings.claim(project.id, server.accounts["bob"].id, server.clock(), server.service.random)).id,  # type: ignore[union-attr]
        server.accounts["bob"].id, Answer(ranking=((0,), (1,)), reason="SECRET REASON"), "some key", server.clock(),
    )  # fmt: skip
    page = at_desk(sit, "eve", project)
    html = page.content()
    assert "SECRET REASON" not in html
    assert not re.search(r'"p0"|>p0<|policy', html)
    assert held.item not in html


@pytest.mark.parametrize("task", [Task(all_bad=True, strength=True), Task(kind="rank", all_bad=True), Task(dimensions=("a" * 40, "b"))])
def test_a_phone_never_scrolls_sideways(server: RatingServer, sit: Sit, task: Task) -> None:
    project = server.project(items=2, task=task)
    server.account("ann", "owner", project)
    page = at_desk(sit, "ann", project, viewport={"width": 390, "height": 844}, has_touch=True)
    for path in (f"/projects/{project.id}/rate", f"/projects/{project.id}", "/", "/me", "/accounts", "/projects/new", "/api/docs"):
        page.goto(server.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
    page.goto(f"{server.url}/projects/{project.id}/rate")
    box = page.locator("#verdict button[type=submit]").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= 844
    assert box["height"] >= 40


def test_dark_mode_follows_the_system_and_the_toggle_is_kept(server: RatingServer, sit: Sit) -> None:
    server.account("bob")
    page = sit("bob", "/", color_scheme="dark")
    paper = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(paper) == "rgb(22, 20, 17)"
    page.get_by_role("button", name="Dark mode").click()
    assert page.evaluate(paper) == "rgb(250, 247, 241)"
    page.reload()
    assert page.evaluate(paper) == "rgb(250, 247, 241)"


def test_a_warning_covers_the_item_until_it_is_accepted(server: RatingServer, sit: Sit) -> None:
    project = server.project()
    server.ratings.set_guideline(project.id, "Be kind.", server.clock(), warning="Rude words.")
    server.account("bob", "rater", project)
    page = sit("bob", f"/projects/{project.id}/rate")
    expect(page.locator("#curtain")).to_contain_text("Rude words.")
    box = page.locator("#curtain").bounding_box()
    assert box == {"x": 0, "y": 0, "width": 1200, "height": 900}
    page.keyboard.press("1")  # nothing is judged behind the curtain
    page.get_by_role("button", name="Begin").click()
    assert page.locator("input[name='dimension-0']:checked").count() == 0
    page.keyboard.press("p")
    expect(page.locator("#curtain")).to_contain_text("A break")
    page.keyboard.press("Escape")
    page.reload()
    expect(page.locator("#verdict")).to_be_visible()
    expect(page.locator("#curtain")).to_be_hidden()


def test_the_next_item_is_shown_at_once(server: RatingServer, sit: Sit) -> None:
    """In the very task that takes the answer: nothing is waited for, no request and no timer."""
    project = server.project(items=12)
    server.account("bob", "rater", project)
    page = at_desk(sit, "bob", project)
    for _ in range(10):
        before, after = page.evaluate(
            """() => {
              const asked = () => document.querySelector('.asked')?.textContent;
              const before = asked();
              document.dispatchEvent(new KeyboardEvent('keydown', {key: '1', bubbles: true}));
              document.getElementById('verdict').requestSubmit();
              return [before, asked()];
            }"""
        )
        assert before
        assert after not in (before, None)
        idle(page)


def test_two_pages_of_one_rater_keep_both_answers(server: RatingServer, sit: Sit) -> None:
    project, other = server.project(items=2), server.project("Other", items=2)
    server.account("bob", "rater", project, other)
    page = at_desk(sit, "bob", project)
    second = page.context.new_page()
    second.goto(f"{server.url}/projects/{other.id}/rate")
    expect(second.locator("#verdict")).to_be_visible()
    intercept(page.context, "**/judgments", lambda route: route.abort())
    for one in (page, second):
        one.keyboard.press("1")
        one.keyboard.press("Enter")
        expect(one.locator("#strip")).to_contain_text("kept on this device")
    page.context.unroute_all(behavior="wait")
    page.close()
    second.reload()
    settled(second)
    assert (len(said(server, project)), len(said(server, other))) == (1, 1)


def test_signed_out_is_not_taken_for_nothing_left(server: RatingServer, sit: Sit) -> None:
    project = server.project(items=3)
    server.account("bob", "rater", project)
    page = at_desk(sit, "bob", project)
    intercept(page, "**/assignments", lambda route: route.fulfill(status=401, json={"detail": "Sign in first."}))
    intercept(page, "**/judgments", lambda route: route.fulfill(json={**route.fetch().json(), "assignments": []}))
    for _ in range(2):
        page.keyboard.press("1")
        page.keyboard.press("Enter")
        settled(page)
        idle(page)
    expect(page.locator("#strip")).to_contain_text("You are signed out; sign in again")
    expect(page.get_by_text("Nothing left for you here")).to_have_count(0)
    page.unroute_all(behavior="wait")
    ready(page)
    expect(page.locator(".asked")).to_be_visible()

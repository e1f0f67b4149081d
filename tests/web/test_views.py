"""How the desk shows texts: as written, stacked, with differences; from the right; on other keyboards; in a low window."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from palate.core import Message
from palate.ratings import Candidate, Item, Project, Task
from tests.support.rating_server import RatingServer
from tests.web.conftest import Sit, idle
from tests.web.test_judging import at_desk, ready, said, settled

STYLE = "([selector, name]) => getComputedStyle(document.querySelector(selector))[name]"


def asks(
    server: RatingServer, *texts: str, prompt: str = "Which?", task: Task | None = None, times: int = 1, name: str = "Taste"
) -> Project:
    """A project about these completions, for `bob`; its items differ in the prompt only."""
    project = server.project(name, items=0, task=task or Task(reason="off"))
    rows = [
        Item((Message("user", f"{prompt} {n}" if times > 1 else prompt),), tuple(Candidate(text) for text in texts)) for n in range(times)
    ]
    server.ratings.add_items(project.id, rows, server.clock())
    if "bob" not in server.accounts:
        server.account("bob", "rater", project)
    return project


def shown(page: Page) -> list[str]:
    """What can be read in each card."""
    return [page.evaluate("(one) => one.innerText", card) for card in page.query_selector_all(".answer .body")]


def test_the_source_is_one_key_away_and_stays(server: RatingServer, sit: Sit) -> None:
    texts = ("**bold** \u200bword", "plain")
    project = asks(server, *texts, times=2)
    page = at_desk(sit, "bob", project)
    assert not any("**" in text for text in shown(page))
    expect(page.locator(".answer .textnote")).to_have_count(1)
    page.keyboard.press("m")
    assert sorted(shown(page)) != sorted(texts)  # the note is there as well
    assert any(text.startswith("**bold** ") for text in shown(page))
    expect(page.locator("[data-view=source]")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    settled(page)
    assert any(text.startswith("**bold** ") for text in shown(page))  # on the next item, too
    page.reload()
    page.locator("[data-view=source]").click()
    assert not any("**" in text for text in shown(page))


def test_texts_that_look_alike_are_shown_as_written(server: RatingServer, sit: Sit) -> None:
    project = asks(server, "- one\n- two", "* one\n* two")
    server.account("rev", "reviewer", project)
    (item,) = server.ratings.items(project.id)
    pages = [at_desk(sit, "bob", project), sit("rev", f"/projects/{project.id}/review/{item.id}")]
    for page in pages:
        expect(page.locator(".alike")).to_contain_text("not the same text")
        assert sorted(shown(page)) == ["* one\n* two", "- one\n- two"]
        page.keyboard.press("m")
        assert shown(page)[0] == shown(page)[1]
        page.keyboard.press("d")
        assert page.locator(".marked mark").all_text_contents() in (["-", "-", "*", "*"], ["*", "*", "-", "-"])
        expect(page.locator(".summary")).to_have_text("4 places are marked.")


def anew(page: Page, server: RatingServer, project: Project) -> None:
    """The desk of a project, which remembers nothing. It is left first: a desk keeps its draft when it is left."""
    page.goto(f"{server.url}/static/icon.svg")
    page.evaluate("localStorage.clear()")
    page.goto(f"{server.url}/projects/{project.id}/rate")
    ready(page)
    idle(page)


MARKS = [
    ("a fair day", "a poor day", ("fair", "poor")),
    ("one two three four", "one three four five", ("two ", " five")),
    ("the same", "the same.", ("", ".")),
    ("a b", "a  b", ("", " ")),
    ("ab", "a\u200bb", ("ab", "a\u200bb")),
    ("今日は良い天気です", "今日は悪い天気です", ("良", "悪")),
    ("x " * 3000, "y " * 3000, ("x " * 2999 + "x", "y " * 2999 + "y")),
]


def test_differences_are_marked_by_word(server: RatingServer, sit: Sit) -> None:
    page = None
    for number, (first, second, marks) in enumerate(MARKS):
        project = asks(server, first, second, name=f"Taste {number}")
        if page is None:
            page = at_desk(sit, "bob", project)
        else:
            server.ratings.join(project.id, server.accounts["bob"].id, server.clock())
            anew(page, server, project)
        page.keyboard.press("d")
        found = {
            one.text_content(): "".join(mark.text_content() or "" for mark in one.query_selector_all("mark"))
            for one in page.query_selector_all(".marked")
        }
        assert found == dict(zip((first, second), marks, strict=True))  # and the marks change no text


def test_completions_can_be_stacked_and_copied(server: RatingServer, sit: Sit) -> None:
    text = "\n```python\nif a_b:\n    c\\d\n```\n"
    page = at_desk(sit, "bob", asks(server, text, "b"))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tops = "[...document.querySelectorAll('.answer')].map((one) => one.getBoundingClientRect().top)"
    assert len(set(page.evaluate(tops))) == 1
    page.keyboard.press("l")
    assert len(set(page.evaluate(tops))) == 2
    card = page.locator(".answer", has_text="python")
    card.get_by_role("button", name="Copy").click()
    expect(card.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == text
    assert page.locator("input[name='dimension-0']:checked").count() == 0  # the button chooses nothing


def test_an_answer_from_the_right(server: RatingServer, sit: Sit) -> None:
    text = "هذه دالة:\n\n```python\ndef f(x, y):\n    pass\n```\n\n1. أولاً\n\n> اقتباس\n\n| أ |\n|---|\n| ب |"
    page = at_desk(sit, "bob", asks(server, text, text + "\n\nx"))
    styles = {
        (".answer .prose pre", "direction"): "ltr", (".answer .prose p", "direction"): "rtl", (".prose ol", "paddingLeft"): "0px",
        (".prose blockquote", "borderLeftWidth"): "0px", (".prose blockquote", "borderRightWidth"): "3px",
        (".prose td", "direction"): "rtl", (".source", "unicodeBidi"): "plaintext",
    }  # fmt: skip
    assert {where: page.evaluate(STYLE, list(where)) for where in styles} == styles
    inside = "[...document.querySelectorAll('.prose ol')].every((one) => parseFloat(getComputedStyle(one).paddingRight) > 20)"
    assert page.evaluate(inside)


def test_a_cell_is_aligned_in_the_first_item_as_in_the_next(server: RatingServer, sit: Sit) -> None:
    project = asks(server, "| n | p |\n|---|--:|\n| a | 1 |", "| n | p |\n|---|--:|\n| a | 2 |", times=2)
    page = at_desk(sit, "bob", project)
    for _ in range(2):
        assert page.evaluate(STYLE, [".answer td:nth-child(2)", "textAlign"]) == "right"
        page.keyboard.press("1")
        page.keyboard.press("Enter")
        settled(page)


LAYOUTS = {
    "Russian": "цаф", "Greek": "ςφυ", "Arabic": "صبع", "Hebrew": "'כו", "Korean": "ㅈㄹㅕ", "wide": "\uff57\uff46\uff55", "Latin": "wfu",
}  # fmt: skip
"""The letters of the keys w, f and u."""


def test_letters_work_by_their_place_on_other_keyboards(server: RatingServer, sit: Sit) -> None:
    project = server.project(task=Task(strength=True))
    server.account("bob", "rater", project)
    page = at_desk(sit, "bob", project)
    for layout, keys in LAYOUTS.items():
        anew(page, server, project)
        expect(page.locator("#strip"), layout).not_to_contain_text("nothing to take back")
        press(page, "1", "Digit1")
        for key, code in zip(keys, ("KeyW", "KeyF", "KeyU"), strict=True):
            press(page, key, code)
            if code == "KeyW":
                expect(page.locator("input[name=strength]:checked"), layout).to_have_value("2")
            if code == "KeyF":
                expect(page.locator("#flagdialog"), layout).to_be_visible()
                page.keyboard.press("Escape")
        expect(page.locator("#strip"), layout).to_contain_text("nothing to take back")


@pytest.mark.parametrize(
    ("before", "key", "code", "value"),
    [
        ("", "٢", "Numpad2", "2"), ("", "ช", "Equal", "="), ("", "\uff12", "", "2"),
        ("s", ",", "KeyW", None), ("1", "é", "KeyW", None), ("1", "End", "Numpad1", "1"),
    ],
)  # fmt: skip
def test_other_digits_work_and_latin_layouts_keep_their_own_keys(
    server: RatingServer, sit: Sit, before: str, key: str, code: str, value: str | None
) -> None:
    """On Dvorak the comma stands where others have the w; it means nothing."""
    project = server.project(task=Task(strength=True))
    server.account("bob", "rater", project)
    page = at_desk(sit, "bob", project)
    if before:
        press(page, before, f"Key{before.upper()}" if before.isalpha() else f"Digit{before}")
        settled(page)
    press(page, key, code)
    checked = page.locator("input[name='dimension-0']:checked")
    if value is None:
        assert page.locator("input[name=strength]:checked").count() == 0
    else:
        expect(checked).to_have_value(value)


def press(page: Page, key: str, code: str) -> None:
    """A key as a keyboard with another layout sends it."""
    page.evaluate(
        "([key, code]) => document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key, code, bubbles: true}))", [key, code]
    )


@pytest.mark.parametrize(("width", "height"), [(640, 360), (320, 180), (853, 512)])
def test_a_zoomed_window_can_be_read_and_answered(server: RatingServer, sit: Sit, width: int, height: int) -> None:
    task = Task(dimensions=("helpful", "honest", "harmless"), all_bad=True, strength=True)
    project = asks(server, "word " * 300, "other " * 300, task=task, times=2)
    page = at_desk(sit, "bob", project, viewport={"width": width, "height": height})
    expect(page.locator("body")).to_have_class(re.compile("low"))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    hidden = (
        "['sheet', 'verdict'].filter((id) => { const one = document.getElementById(id); return one.scrollHeight > one.clientHeight + 1; })"
    )
    assert page.evaluate(hidden) == []  # nothing is cut: the page itself scrolls
    for row in range(3):
        page.locator(f"input[name='dimension-{row}'][value='1']").check(force=True)
    page.keyboard.press("q")
    page.locator("#verdict button[type=submit]").click()
    settled(page)
    assert len(said(server, project)) == 1
    assert page.evaluate("scrollY") == 0  # the next item begins at its top


def test_an_ordinary_window_keeps_its_two_panes(server: RatingServer, sit: Sit) -> None:
    task = Task(dimensions=("helpful", "honest", "harmless"), all_bad=True, strength=True)
    project = asks(server, "word " * 900, "other " * 900, task=task)
    page = at_desk(sit, "bob", project, viewport={"width": 1280, "height": 720})
    assert page.evaluate("document.body.classList.contains('low')") is False
    assert page.evaluate("document.getElementById('sheet').clientHeight") > 200
    page.set_viewport_size({"width": 640, "height": 360})
    expect(page.locator("body")).to_have_class(re.compile("low"))
    page.set_viewport_size({"width": 1280, "height": 720})
    expect(page.locator("body")).not_to_have_class(re.compile("low"))


def test_guidelines_that_cover_the_page_can_be_closed_by_touch(server: RatingServer, sit: Sit) -> None:
    page = at_desk(sit, "bob", asks(server, "a", "b"), viewport={"width": 390, "height": 844}, has_touch=True)
    page.get_by_role("button", name="Guidelines").tap()
    expect(page.locator("#guidelines")).to_be_visible()
    page.get_by_role("button", name="Close").tap()
    expect(page.locator("#guidelines")).to_be_hidden()


def test_no_page_scrolls_sideways_at_four_hundred_percent(server: RatingServer, sit: Sit) -> None:
    project = server.project()
    server.account("ann", "owner", project)
    page = sit("ann", viewport={"width": 320, "height": 256})
    widths = {}
    for path in ("/", "/me", "/accounts", "/projects/new", "/projects/{}", "/projects/{}/people", "/projects/{}/review"):
        page.goto(server.url + path.format(project.id))
        widths[path] = page.evaluate("document.documentElement.scrollWidth")
    assert {path: width for path, width in widths.items() if width > 320} == {}

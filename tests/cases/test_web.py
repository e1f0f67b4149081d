"""The inputs of shared/cases about the raters' desk, each with its right result."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from palate.core import Message
from palate.ratings import Candidate, Item, Project, Task
from palate.web.prose import prose_of
from tests.support.rating_server import RatingServer
from tests.support.repository import ROOT
from tests.web.conftest import Sit, database, idle, server, sit, until, visit  # noqa: F401  # fixtures
from tests.web.test_judging import at_desk, ready, said, settled

LABEL = ROOT.parent / "shared" / "cases" / "label"


def script(case: str) -> ast.Module:
    """The script of a case."""
    (path,) = sorted(LABEL.glob(f"{case}-*/run.py")) or [Path()]
    if not path.is_file():
        pytest.skip("shared/cases is not here")
    return ast.parse(path.read_text(encoding="utf-8"))


def literals(case: str, kind: type[ast.expr]) -> list[Any]:
    """The literal lists, tuples or dictionaries in the script of a case, outermost first."""
    found = []
    for node in ast.walk(script(case)):
        if isinstance(node, kind):
            try:
                found.append(ast.literal_eval(node))
            except ValueError:
                continue
    return found


def project_of(server: RatingServer, rows: list[dict[str, Any]], task: Task | None = None) -> Project:  # noqa: F811
    """A project with the case's rows, for the rater `ann`."""
    project = server.project(items=0, task=task or Task())
    items = [Item((Message("user", row["prompt"]),), tuple(Candidate(text) for text in row["completions"])) for row in rows]
    server.ratings.add_items(project.id, items, server.clock())
    server.account("ann", "rater", project)
    return project


def test_20_texts_are_shown_as_they_differ() -> None:
    rows = next(found for found in literals("20", ast.List) if found and isinstance(found[0], dict))
    assert len(rows) == 3
    for text in (text for row in rows for text in row["completions"]):
        shown = prose_of(text).html.unescape()
        for mark in ("\\.", "[1]:", "\\[", "\\(", "\\{", "__init__", "2*3*4"):
            assert (mark in shown) is (mark in text)


def test_21_code_from_the_left_in_a_text_from_the_right(server: RatingServer, sit: Sit) -> None:  # noqa: F811
    script("21")
    (path,) = LABEL.glob("21-*/items.jsonl")
    page = at_desk(sit, "ann", project_of(server, [json.loads(path.read_text(encoding="utf-8"))]))
    style = "([q, name]) => getComputedStyle(document.querySelector(q))[name]"
    assert page.evaluate(style, [".prose pre", "direction"]) == "ltr"
    assert page.evaluate(style, [".prose ol", "paddingLeft"]) == "0px"
    assert page.evaluate(style, [".prose ol", "paddingRight"]) != "0px"
    sides = [page.evaluate(style, [".prose blockquote", f"border{side}Width"]) for side in ("Left", "Right")]
    assert sides == ["0px", "3px"]


def test_22_letters_by_their_place(server: RatingServer, sit: Sit) -> None:  # noqa: F811
    keys = [found for found in literals("22", ast.Tuple) if len(found) == 2 and str(found[1]).startswith(("Key", "Digit"))]
    assert len(keys) == 3
    page = at_desk(sit, "ann", project_of(server, [{"prompt": "q", "completions": ["a", "b"]}], Task(strength=True)))
    for key, code in keys:
        page.evaluate("([key, code]) => document.body.dispatchEvent(new KeyboardEvent('keydown', {key, code, bubbles: true}))", [key, code])
    expect(page.locator("input[name=dimension-0]:checked")).to_have_value("1")
    expect(page.locator("input[name=strength]:checked")).to_have_value("2")
    expect(page.locator("#flagdialog")).to_be_visible()


def test_25_a_text_too_long_is_kept(server: RatingServer, sit: Sit) -> None:  # noqa: F811
    script("25")
    page = at_desk(sit, "ann", project_of(server, [{"prompt": "Shorten this.", "completions": ["word " * 14_000]}], Task("write")))
    edit = """() => { const text = document.getElementById('text'); text.value = text.value.slice(0, 65000) + ' EDITED';
      text.dispatchEvent(new Event('input', {bubbles: true})); }"""
    page.evaluate(edit)
    page.click("#text")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#hint")).to_contain_text("Shorten it by 5,007")
    assert page.evaluate("JSON.stringify(localStorage).includes('EDITED')")


def test_26_a_rule_with_two_lines(server: RatingServer, sit: Sit) -> None:  # noqa: F811
    (task,) = [found for found in literals("26", ast.Dict) if found.get("kind") == "rule"]
    project = project_of(server, [{"prompt": "q", "completions": ["a"]}], Task("rule", rules=tuple(task["rules"])))
    page = at_desk(sit, "ann", project)
    judge(page, "1")
    assert said(server, project)[0].answer.rule == task["rules"][0]


def test_33_a_zoomed_desk(server: RatingServer, sit: Sit) -> None:  # noqa: F811
    sizes = next(found for found in literals("33", ast.Tuple) if found and isinstance(found[0], tuple))
    task = Task(dimensions=("helpful", "honest", "harmless"), all_bad=True, strength=True)
    project = project_of(server, [{"prompt": "q", "completions": ["word " * 300, "other " * 300]}], task)
    page = at_desk(sit, "ann", project)
    for width, height in sizes:
        page.set_viewport_size({"width": width, "height": height})
        ready(page)
        until(page, "document.getElementById('sheet').clientHeight > 200")
        assert page.evaluate("document.getElementById('sheet').clientHeight") > 200


def test_34_two_tabs_of_one_person(server: RatingServer, sit: Sit) -> None:  # noqa: F811
    script("34")
    project = project_of(server, [{"prompt": f"q{n}", "completions": ["a", "b"]} for n in range(3)])
    first = at_desk(sit, "ann", project)
    second = first.context.new_page()
    second.goto(first.url)
    ready(second)
    judge(first, "1")
    judge(second, "2")
    expect(second.locator("#strip")).to_contain_text("You have answered this in another tab")


def test_35_cells_are_aligned_in_every_item(server: RatingServer, sit: Sit) -> None:  # noqa: F811
    table = next(
        node.value.value for node in ast.walk(script("35")) if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    )
    rows = [{"prompt": f"q{n}", "completions": [table, str(table).replace("1.20", f"{n}.00")]} for n in range(2)]
    page = at_desk(sit, "ann", project_of(server, rows))
    for _ in rows:
        assert page.evaluate("getComputedStyle(document.querySelector('.answer td:nth-child(2)')).textAlign") == "right"
        judge(page, "1")


def judge(page: Page, key: str) -> None:
    """Answer the item on the page, and wait until the answer has arrived."""
    page.keyboard.press(key)
    page.keyboard.press("Enter")
    settled(page)
    idle(page)

"""Several dimensions: pairs and rankings, by keys, by pointer, on a phone, and in review."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from palate.core import Message
from palate.ratings import Answer, Candidate, Item, Project, Task
from tests.support.rating_server import RatingServer
from tests.web.conftest import Sit, both
from tests.web.test_judging import at_desk, drag, said, settled

DIMENSIONS = ("helpful", "honest", "harmless")
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}

FITS = "[document.documentElement, ...document.querySelectorAll('#verdict, #sheet')].every((one) => one.scrollWidth <= one.clientWidth)"
"""Nothing has to be pushed sideways to be seen."""


def ranking(server: RatingServer, dimensions: tuple[str, ...] = DIMENSIONS, items: int = 2) -> Project:
    project = server.project(items=items, task=Task(kind="rank", dimensions=dimensions, all_bad=True, reason="off"))
    server.account("bob", "rater", project)
    return project


def test_the_form_makes_a_ranking_on_several_dimensions(server: RatingServer) -> None:
    server.account("ann", "owner")
    form = {"name": "R", "kind": "rank", "reason": "off", "dimensions": "helpful, honest", "ties": "yes", "minutes": "15", "overlap": "1"}
    assert server.client("ann").post("/projects", {**form, "queue": "random"}).status_code == 303
    assert server.ratings.projects()[0].task.dimensions == ("helpful", "honest")


@pytest.mark.parametrize(("count", "options"), [(12, {}), (12, PHONE), (15, {})])
def test_a_dozen_completions_have_a_key_each(server: RatingServer, sit: Sit, count: int, options: dict[str, object]) -> None:
    project = server.project(items=0, task=Task(kind="rank", reason="off"))
    server.ratings.add_items(project.id, [Item((Message("user", "Which?"),), tuple(Candidate(f"number {n}") for n in range(count)))], 1.0)
    server.account("bob", "rater", project)
    page = at_desk(sit, "bob", project, **options)
    page.keyboard.press("Enter")
    expect(page.locator("#hint")).to_contain_text("press their keys")
    expect(page.locator(".board")).to_contain_text("1 to 9 and the letters")
    keys = "123456789abcehi"[:count]
    assert page.locator(".answer header kbd").all_text_contents() == list(keys)
    chips = [str(n + 1) + (key if n > 8 else "") for n, key in enumerate(keys)]
    assert page.locator(".chipbutton").all_text_contents() == chips
    for key in reversed(keys[3:]):
        page.keyboard.press(key)
    assert page.evaluate(FITS)
    expect(page.locator("#live")).to_contain_text(f"Best first: {count}, then {count - 1}, then")
    page.locator(f".answer[data-place='{count - 1}'] .prose").click()  # off again
    for key in f"321{keys[-1]}":
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    settled(page)
    entry = said(server, project)[0]
    assert [tier[0] for tier in entry.answer.ranking] == [*reversed(range(count - 1)), count - 1]


def test_three_rankings_by_keyboard(server: RatingServer, sit: Sit) -> None:
    """The keys go on to the next dimension when one is ranked; Backspace goes back."""
    project = ranking(server)
    page = at_desk(sit, "bob", project)
    now = page.locator(".ranked.now .dimensionname")
    expect(now).to_have_text("Helpful")
    for key in "1234":
        page.keyboard.press(key)
    expect(now).to_have_text("Honest")
    page.keyboard.press("Enter")
    expect(page.locator("#hint")).to_contain_text("honest")
    page.keyboard.press("Backspace")  # nothing is on this board: back to the one before
    expect(now).to_have_text("Helpful")
    page.keyboard.press("Backspace")  # takes 4 off
    page.keyboard.press("=")
    page.keyboard.press("4")  # level with 3
    expect(page.locator("#live")).to_have_text("helpful: Best first: 1, then 2, then 3 level with 4")
    for key in "4321":
        page.keyboard.press(key)
    expect(now).to_have_text("Harmless")
    page.keyboard.press("2")
    page.reload()  # the draft has all boards, and the keys go on where they were
    expect(now).to_have_text("Harmless")
    for key in "134":
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    settled(page)
    answer = said(server, project)[0].answer
    assert answer.ranking == ((0,), (1,), (2, 3))
    assert dict(answer.dimensions) == {"honest": ((3,), (2,), (1,), (0,)), "harmless": ((1,), (0,), (2,), (3,))}
    expect(page.locator(".tray .chipbutton")).to_have_count(12)  # the next item begins with nothing ranked


def test_all_bad_clears_every_board_and_a_board_clears_all_bad(server: RatingServer, sit: Sit) -> None:
    project = ranking(server)
    page = at_desk(sit, "bob", project)
    for key in "123412":
        page.keyboard.press(key)
    page.locator("[data-name='harmless'] .tiers").click()  # the keys go where one points
    expect(page.locator(".ranked.now .dimensionname")).to_have_text("Harmless")
    page.keyboard.press("3")
    expect(page.locator("[data-name='harmless'] .tier")).to_have_count(1)
    expect(page.locator(".tray .chipbutton")).to_have_count(5)
    page.keyboard.press("0")
    expect(page.locator(".tray .chipbutton")).to_have_count(12)
    page.keyboard.press("1")
    expect(page.locator("input[name='dimension-0']:checked")).to_have_count(0)
    page.keyboard.press("0")
    page.keyboard.press("Enter")
    settled(page)
    assert said(server, project)[0].answer == Answer(all_bad=True, seconds=said(server, project)[0].answer.seconds)


def test_a_chip_is_dragged_on_its_own_board_only(server: RatingServer, sit: Sit) -> None:
    project = ranking(server, DIMENSIONS[:2])
    page = at_desk(sit, "bob", project)
    first, second = "[data-name='helpful'] ", "[data-name='honest'] "

    def onto(board: str, place: int, target: str) -> None:
        drag(page, place, target, board)

    onto(second, 2, second + ".tiers")
    expect(page.locator(".ranked.now .dimensionname")).to_have_text("Honest")
    onto(second, 0, first + ".tiers")  # not its board
    expect(page.locator(first + ".tier")).to_have_count(0)
    expect(page.locator(second + ".tier")).to_have_count(1)
    expect(page.locator(".over")).to_have_count(0)
    onto(second, 0, second + "[data-gap='0']")
    onto(second, 1, second + "[data-gap='2']")
    onto(second, 3, second + "[data-tier='1']")
    expect(page.locator(".ranked.now .dimensionname")).to_have_text("Helpful")
    for key in "1234":
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    settled(page)
    answer = said(server, project)[0].answer
    assert (answer.ranking, dict(answer.dimensions)) == (((0,), (1,), (2,), (3,)), {"honest": ((0,), (2, 3), (1,))})


def test_a_chip_is_moved_by_arrows_on_the_second_dimension(server: RatingServer, sit: Sit) -> None:
    project = ranking(server, DIMENSIONS[:2], items=1)
    page = at_desk(sit, "bob", project)
    for key in "12341234":
        page.keyboard.press(key)
    page.get_by_label("Completion 4 for honest").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.locator("#verdict button[type=submit]").click()
    settled(page)
    answer = said(server, project)[0].answer
    assert (answer.ranking, answer.dimensions["honest"]) == (((0,), (1,), (2,), (3,)), ((0,), (3,), (1,), (2,)))


def test_three_rankings_fit_a_phone(server: RatingServer, sit: Sit) -> None:
    project = ranking(server)
    page = at_desk(sit, "bob", project, **PHONE)
    assert page.evaluate(FITS)
    for dimension in DIMENSIONS:
        for place in (1, 0, 3, 2):
            page.locator(f"[data-name='{dimension}'] .tray [data-place='{place}']").tap()
        assert page.evaluate(FITS)
    sheet, button = page.locator("#sheet").bounding_box(), page.locator("#verdict button[type=submit]")
    assert sheet is not None
    assert sheet["height"] >= 200  # there is something left to read
    button.tap()
    settled(page)
    answer = said(server, project)[0].answer
    assert [answer.ranking, *answer.dimensions.values()] == [((1,), (0,), (3,), (2,))] * 3


@pytest.mark.parametrize("is_phone", [False, True])
def test_pairs_on_three_dimensions(server: RatingServer, sit: Sit, is_phone: bool) -> None:
    project = server.project(items=2, task=Task(dimensions=DIMENSIONS, all_bad=True, strength=True, reason="off"))
    server.account("bob", "rater", project)
    page = at_desk(sit, "bob", project, **(PHONE if is_phone else {}))
    now = page.locator(".dimension.now .dimensionname")
    assert page.evaluate(FITS)
    if is_phone:
        for number, value in enumerate("12="):
            page.locator(f".option:has(input[name='dimension-{number}'][value='{value}'])").tap()
        page.locator(".option:has(input[name='strength'][value='2'])").tap()
        page.locator("#verdict button[type=submit]").tap()
    else:
        expect(now).to_have_text("Helpful")
        page.keyboard.press("1")
        page.keyboard.press("1")
        expect(now).to_have_text("Harmless")
        page.keyboard.press("Backspace")
        expect(now).to_have_text("Honest")
        page.keyboard.press("2")
        page.keyboard.press("Enter")
        expect(page.locator("#hint")).to_contain_text("harmless")
        page.keyboard.press("=")
        page.keyboard.press("w")
        page.keyboard.press("Enter")
    settled(page)
    answer = said(server, project)[0].answer
    assert (answer.ranking, dict(answer.dimensions), answer.strength) == (((0,), (1,)), {"honest": ((1,), (0,)), "harmless": ((0, 1),)}, 2)


@both
def test_a_reviewer_decides_on_each_dimension(server: RatingServer, sit: Sit) -> None:
    project = ranking(server, DIMENSIONS[:2], items=1)
    server.account("rev", "reviewer", project)
    held = server.ratings.claim(project.id, server.accounts["bob"].id, server.clock(), server.service.random)
    assert held is not None
    order = ((0,), (1,), (2,), (3,))
    server.ratings.submit(held.id, held.rater, Answer(ranking=order, dimensions={"honest": order}, flag="look"), "12345678", server.clock())
    page = sit("rev", f"/projects/{project.id}/review/{held.item}")
    page.get_by_label("Ranking on helpful").fill("2 > 1 > 3 = 4")
    page.get_by_label("Ranking on honest").fill("4 > 3 > 2")
    page.get_by_role("button", name="Decide").click()
    expect(page.get_by_role("alert")).to_contain_text("each of 1 to 4 once")
    expect(page.get_by_label("Ranking on helpful")).to_have_value("2 > 1 > 3 = 4")  # what was filled in stays
    page.get_by_label("Ranking on honest").fill("4 > 3 > 2 > 1")
    page.get_by_role("button", name="Decide").click()
    expect(page.get_by_text("Nothing to decide")).to_be_visible()
    (decided,) = [one for one in said(server, project) if one.kind == "adjudication"]
    assert (decided.answer.ranking, dict(decided.answer.dimensions)) == (((1,), (0,), (2, 3)), {"honest": ((3,), (2,), (1,), (0,))})

"""Criteria as a question to people: each on one page, met, not met or unsure, by keys and on a phone, stored, exported and measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import expect

from palate.core import Completion, DataError, Message, Prompt
from palate.data.exchange import read_exchange, write_exchange
from palate.data.rubrics import rubric_of
from palate.evaluation.rater_votes import votes_in
from palate.judges.rubric_exchange import rubric_exchange
from palate.judges.rubric_grading import GradingItem
from palate.ratings import Answer, Candidate, Item, Project, Task
from tests.support.rating_server import RatingServer
from tests.web.conftest import Sit
from tests.web.test_dimensions import FITS, PHONE
from tests.web.test_judging import at_desk, said, settled

RUBRIC = [
    {"id": "cause", "text": "Names the worn seal as the likeliest cause, and says how to see whether it is that.", "weight": 3},
    {"id": "first", "text": "Says first of all that the water must be shut off.", "weight": 2},
    {"id": "blame", "text": "Blames the person for the damage.", "weight": -2},
]
OTHER = [{"id": "polite", "text": "<b>Stays</b> polite.", "weight": 1}]
TASK = Task(kind="rubric", reason="off")


def graded(server: RatingServer, *rubrics: list[dict[str, object]]) -> Project:
    project = server.project(items=0, task=TASK, overlap=2)
    text = "Shut off the water first. Then look at the seal: if it is flat or torn, it is worn and a new one costs little."
    questions = [(Message("user", f"Tap {n} drips. What can I do?"),) for n in range(len(rubrics))]
    items = [Item(asked, (Candidate(text),), {"rubric": rubric}) for asked, rubric in zip(questions, rubrics, strict=True)]
    server.ratings.add_items(project.id, items, server.clock())
    for name in ("bob", "eve"):
        server.account(name, "rater", project)
    return project


@pytest.mark.parametrize("options", [{}, PHONE])
def test_each_criterion_is_asked_on_one_page(server: RatingServer, sit: Sit, options: dict[str, object]) -> None:
    project = graded(server, RUBRIC)
    page = at_desk(sit, "bob", project, **options)
    assert page.locator(".criterion .dimensionname").all_text_contents() == [str(one["text"]) for one in RUBRIC]
    assert page.evaluate(FITS)
    assert "weight" not in page.content()
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(page.locator("#hint")).to_contain_text("2 criteria are still open")
    page.keyboard.press("2")
    page.get_by_role("radiogroup", name="Blames the person").get_by_role("radio", name="Unsure").check()
    page.locator("#verdict [type=submit]").click()
    settled(page)
    (entry,) = said(server, project)
    assert entry.answer.grades == {"cause": "met", "first": "unmet", "blame": "unsure"}


def test_every_item_brings_its_own_criteria_and_undo_shows_the_answer(server: RatingServer, sit: Sit) -> None:
    project = graded(server, RUBRIC, OTHER)
    page = at_desk(sit, "bob", project)
    counts = [page.locator(".criterion").count()]
    page.keyboard.type("1" * counts[0])
    page.keyboard.press("Enter")
    expect(page.locator(".criterion")).to_have_count(4 - counts[0])
    settled(page)
    assert page.locator(".criterion b").count() == 0, "a criterion is a text"
    page.keyboard.press("u")
    expect(page.locator(".criterion")).to_have_count(counts[0])
    expect(page.locator(".criterion input:checked")).to_have_count(counts[0])


def test_grades_that_do_not_fit_the_rubric_are_refused(server: RatingServer) -> None:
    project = graded(server, RUBRIC)
    ratings, now = server.ratings, server.clock()
    held = ratings.claim(project.id, server.accounts["bob"].id, now, server.service.random)
    assert held is not None
    wrong = (
        ({"cause": "met"}, "must grade each criterion of the item once"),
        ({"cause": "met", "first": "met", "blame": "met", "more": "met"}, "see 'more'"),
        ({"cause": "met", "first": "met", "blame": "perhaps"}, "a grade is met, unmet, unsure"),
        ({}, "nothing is graded"),
    )
    for grades, message in wrong:
        with pytest.raises(DataError, match=message):
            ratings.submit(held.id, server.accounts["bob"].id, Answer(grades=grades), "key-of-the-answer", now)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "fault"),
    [({}, "is missing"), ({"rubric": []}, "is empty"), ({"rubric": [{"id": "a", "text": "x", "weight": 1}] * 2}, "stands 2 times")],
)
def test_items_without_a_rubric_that_can_be_used_are_refused(server: RatingServer, fields: dict[str, object], fault: str) -> None:
    project = server.project(items=0, task=TASK)
    with pytest.raises(DataError, match=f"fields.rubric: .*{fault}"):
        server.ratings.add_items(project.id, [Item((Message("user", "?"),), (Candidate("x"),), fields)], 1.0)


def test_people_and_a_model_stand_in_one_table_by_criterion(server: RatingServer, tmp_path: Path) -> None:
    project = graded(server, RUBRIC)
    for name, grades in (
        ("bob", {"cause": "met", "first": "met", "blame": "unmet"}),
        ("eve", {"cause": "met", "first": "unmet", "blame": "unsure"}),
    ):
        held = server.ratings.claim(project.id, server.accounts[name].id, server.clock(), server.service.random)
        assert held is not None
        answer = Answer(grades=grades, seconds=9.0)  # type: ignore[arg-type]
        server.ratings.submit(held.id, server.accounts[name].id, answer, f"key-of-the-answer-{name}", server.clock())
    (item,) = server.ratings.items(project.id)
    judged = GradingItem(
        Prompt("p", item.conversation), Completion(item.candidates[0].text), rubric_of([{**one, "weight": 1} for one in RUBRIC])
    )
    of_model = rubric_exchange("Taste", {"p": judged}, {"small/rubric@1": [{"cause": 0.9, "first": 0.2, "blame": "prose"}]})
    write_exchange(of_model, tmp_path / "model.jsonl")
    server.ratings.import_exchange(read_exchange(tmp_path / "model.jsonl"), "Taste", server.clock())
    write_exchange(server.ratings.as_exchange(project.id), tmp_path / "all.jsonl")
    exchange = read_exchange(tmp_path / "all.jsonl")
    assert len(exchange.items) == 1, "the model's completion is the project's item"
    table, left_out = votes_in(exchange)
    said = {
        (table.votes.items[i].split("/")[-1], table.votes.raters[r]): table.votes.answers[a]
        for i, r, a in zip(table.votes.item, table.votes.rater, table.votes.answer, strict=True)
    }
    people = {name: server.accounts[name].pseudonym for name in ("bob", "eve")}
    assert said == {
        ("cause", people["bob"]): "met", ("cause", people["eve"]): "met", ("cause", "small/rubric@1"): "met",
        ("first", people["bob"]): "met", ("first", people["eve"]): "unmet", ("first", "small/rubric@1"): "unmet",
        ("blame", people["bob"]): "unmet",
    }  # fmt: skip
    assert left_out == (("criterion that its rater is unsure of", 1),)
    assert table.dimensions == ("blame", "cause", "first")


def test_a_reviewer_decides_every_criterion(server: RatingServer) -> None:
    project = graded(server, RUBRIC)
    server.account("ann", "owner")
    (item,) = server.ratings.items(project.id)
    client = server.client("ann")
    page = client.get(f"/projects/{project.id}/review/{item.id}").text
    assert "Blames the person for the damage." in page
    form = {"grade-0": "met", "grade-1": "unmet", "grade-2": "unsure", "reason": ""}
    assert client.post(f"/projects/{project.id}/review/{item.id}", {**form, "grade-2": "perhaps"}).status_code == 422
    assert client.post(f"/projects/{project.id}/review/{item.id}", form).status_code == 303
    (entry,) = said(server, project)
    assert (entry.kind, entry.answer.grades) == ("adjudication", {"cause": "met", "first": "unmet", "blame": "unsure"})


def test_the_form_makes_a_project_of_rubrics(server: RatingServer) -> None:
    server.account("ann", "owner")
    form = {"name": "R", "kind": "rubric", "reason": "off", "dimensions": "overall", "minutes": "15", "overlap": "2", "queue": "random"}
    assert server.client("ann").post("/projects", form).status_code == 303
    assert server.ratings.projects()[0].task.kind == "rubric"


def test_rows_with_a_rubric_are_items(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text(json.dumps({"prompt": "Why?", "completions": ["So."], "rubric": OTHER}) + "\n")
    (item,) = read_exchange(tmp_path / "items.jsonl").items
    assert (item.task, item.fields["rubric"]) == ("rubric", OTHER)
    (tmp_path / "bad.jsonl").write_text(json.dumps({"prompt": "Why?", "completions": ["So."], "rubric": [*OTHER, *OTHER]}) + "\n")
    with pytest.raises(DataError, match="bad.jsonl:1: id 'polite' stands 2 times"):
        read_exchange(tmp_path / "bad.jsonl")

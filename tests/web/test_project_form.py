"""The form of a new project keeps to the bounds of the API, and says beside each field what it takes."""

from __future__ import annotations

import html

import pytest

from palate.web.api_models import ProjectBody
from palate.web.project_form import NUMBERS, bounds
from tests.support.rating_server import RatingServer

FORM = {"name": "New", "kind": "compare", "reason": "off", "dimensions": "overall", "queue": "random"}
NUMBERS_REFUSED = {
    "overlap": ("1e30", "inf", "nan", "0", "101", "2.5", "two"),
    "max_overlap": ("-1", "1e400", "101"),
    "minutes": ("inf", "0.01", "nan", "1441"),
    "gold_percent": ("51", "-1", "inf"),
}
BAD = [
    *((field, value) for field, values in NUMBERS_REFUSED.items() for value in values),
    *(("kind", "other"), ("kind", "rule"), ("reason", "maybe"), ("queue", "first"), ("name", " "), ("name", "x" * 121)),
    *(("dimensions", ",".join("abcdefghijklm")), ("dimensions", "x" * 61), ("dimensions", "a, a"), ("rules", "x" * 2001)),
]


@pytest.mark.parametrize(("field", "value"), BAD)
def test_what_the_api_refuses_is_refused_beside_the_field(server: RatingServer, field: str, value: str) -> None:
    server.account("ann", "owner")
    answer = server.client("ann").post("/projects", {**FORM, field: value})
    assert answer.status_code == 422
    assert f'id="{"rules" if value == "rule" else field}fault"' in answer.text
    assert answer.text.count('class="fault"') == 1
    if field in NUMBERS:
        least, most = bounds()[field]
        assert f"number from {least:g} to {most:g}." in answer.text
        assert f'value="{html.escape(value)}"' in answer.text
    assert server.ratings.projects() == ()


@pytest.mark.parametrize("field", NUMBERS)
def test_the_ends_of_the_bounds_are_taken(server: RatingServer, field: str) -> None:
    server.account("ann", "owner")
    ann = server.client("ann")
    kept, unit = NUMBERS[field]
    for number, value in enumerate(bounds()[field]):
        form = {**FORM, "name": f"P{number}", "max_overlap": "100", field: f"{value:g}"}
        assert ann.post("/projects", form).status_code == 303
        assert getattr(server.ratings.projects()[-1], kept) == pytest.approx(value * unit) or field == "max_overlap"


def test_the_page_has_the_bounds_of_the_api(server: RatingServer) -> None:
    server.account("ann", "owner")
    page = server.client("ann").get("/projects/new").text
    assert 'name="minutes" type="number" min="0.5" max="1440"' in page
    assert ProjectBody.model_json_schema()["properties"]["lease_seconds"]["minimum"] == 30


def test_fewer_at_most_than_at_least_is_told(server: RatingServer) -> None:
    server.account("ann", "owner")
    answer = server.client("ann").post("/projects", {**FORM, "overlap": "3", "max_overlap": "2"})
    assert answer.status_code == 422
    assert 'id="max_overlapfault"' in answer.text

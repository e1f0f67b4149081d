"""Rubrics: what is read from columns and files, what is refused, and the score that follows from grades."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palate.core import DataError, Message, Prompt
from palate.data.cells import InvalidRow
from palate.data.rubric_files import RubricFile, RubricSource
from palate.data.rubrics import Criterion, Rubric, rubric_of


def prompt(identity: str, **fields: object) -> Prompt:
    return Prompt(identity, (Message("user", "?"),), fields, f"prompts.jsonl:{identity}")


OWN = [{"id": "gist", "text": "Names the cause.", "weight": 3}, {"id": "blame", "text": "Blames the user.", "weight": -2}]


def test_criteria_of_each_known_form_are_read() -> None:
    assert rubric_of(OWN) == Rubric((Criterion("gist", "Names the cause.", 3), Criterion("blame", "Blames the user.", -2)))
    health = [
        {"criterion": "Asks how long.", "points": 5, "tags": ["level:example", "axis:context"]},
        {"criterion": "Guesses.", "points": -3},
    ]
    assert rubric_of(health).criteria == (Criterion("1", "Asks how long.", 5, "context"), Criterion("2", "Guesses.", -3))
    titled = [{"title": "Right cause", "description": "Names the cause.", "weight": 5}]
    assert rubric_of(titled).criteria == (Criterion("Right cause", "Names the cause.", 5),)
    assert rubric_of(json.dumps(OWN)) == rubric_of(OWN), "a column of CSV has the list as a text"


def test_every_fault_stands_in_one_message() -> None:
    rows = [
        {"id": "a", "text": " ", "weight": 0},
        {"id": "a", "txt": "x", "weight": "many"},
        {"id": "b", "text": "fine", "weight": -1, "dimension": "stile"},
        {"id": "c", "text": "fine", "criterion": "fine", "weight": float("inf")},
        "no",
    ]
    with pytest.raises(InvalidRow) as caught:
        rubric_of(rows, ["style"])
    for part in (
        "criterion 1: empty `text`",
        "criterion 1: `weight` is 0",
        "criterion 2: there is no 'txt'. Did you mean 'text'?",
        "criterion 2: has no text",
        "criterion 2: `weight` is not a number: 'many'",
        "criterion 3: there is no dimension 'stile'. Did you mean 'style'?",
        "criterion 4: has 'text' and 'criterion', which mean the same",
        "criterion 4: `weight` is not a finite number",
        "criterion 5: `criterion` is not an object",
        "id 'a' stands 2 times",
    ):
        assert part in caught.value.reason, part


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([], "is empty"),
        ("be nice", "is not a list"),
        ([{"text": "x", "weight": -1}], "no weight is above 0"),
        ([{"text": "x"}], "has no weight"),
        ([{"id": "two\nlines", "text": "x", "weight": 1}], "one line"),
    ],
)
def test_rubrics_that_cannot_be_used_are_refused(value: object, reason: str) -> None:
    with pytest.raises(InvalidRow, match=reason):
        rubric_of(value)


def test_the_score_is_the_weights_met_by_the_positive_weights() -> None:
    rubric = Rubric((Criterion("a", "x", 3), Criterion("b", "x", 1), Criterion("c", "x", -2)))
    assert rubric.score({"a": 1.0, "b": 0.0, "c": 0.0}) == 0.75
    assert rubric.score({"a": 1.0, "b": 0.0, "c": 1.0}) == 0.25
    assert rubric.score({"a": 0.0, "b": 0.0, "c": 1.0}) == 0.0, "below 0 it is clipped"
    assert rubric.score({"a": 0.5, "b": 1.0, "c": 0.25}) == pytest.approx((1.5 + 1 - 0.5) / 4)


def test_one_missing_grade_leaves_the_score_unknown() -> None:
    rubric = Rubric((Criterion("a", "x", 3), Criterion("b", "x", 1), Criterion("c", "x", -2)))
    assert rubric.score({"a": 1.0, "b": "the judge wrote a poem", "c": 0.0}) == "1 of 3 criteria have no grade: b: the judge wrote a poem"
    assert rubric.score({"a": 1.0}) == "2 of 3 criteria have no grade: b: was not graded"


def test_dimensions_are_rubrics_of_their_own() -> None:
    rubric = Rubric(
        (Criterion("a", "x", 3, "fact"), Criterion("b", "x", 1, "style"), Criterion("c", "x", -2, "fact"), Criterion("d", "x", -1, "harm"))
    )
    assert {name: [c.id for c in part.criteria] for name, part in rubric.dimensions.items()} == {"fact": ["a", "c"], "style": ["b"]}


@pytest.mark.parametrize("name", ["rubrics.yaml", "rubrics.json"])
def test_a_file_has_rubrics_by_prompt_and_a_default(tmp_path: Path, name: str) -> None:
    content = {"dimensions": ["style"], "default": [{"text": "Is short.", "weight": 1, "dimension": "style"}], "prompts": {"p1": OWN}}
    (tmp_path / name).write_text(json.dumps(content))
    source = RubricSource("rubric", RubricFile.read(tmp_path / name))
    assert source.rubric(prompt("p1", rubric=[{"text": "y", "weight": 1}])) == rubric_of(OWN), "the file's own entry comes first"
    column = source.rubric(prompt("p2", rubric=[{"text": "y", "weight": 1}]))
    assert column is not None
    assert column.criteria[0].text == "y"
    default = source.rubric(prompt("p3"))
    assert default is not None
    assert default.criteria[0].dimension == "style"


def test_a_number_as_an_id_in_yaml_is_the_id_of_a_prompt(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("prompts:\n  7:\n  - {text: x, weight: 1}\n")
    assert RubricSource("rubric", RubricFile.read(tmp_path / "r.yaml")).rubric(prompt("7")) is not None


@pytest.mark.parametrize(
    ("name", "text", "faults"),
    [
        (
            "r.yaml",
            "prompts:\n  p1: []\n  p2: nice\ndefalt: []\n",
            ["prompts.p1: `rubric` is empty", "prompts.p2: `rubric` is not a list", "'default'"],
        ),
        ("r.yaml", "default:\n- {text: x, weight: 1}\ndefault:\n- {text: y, weight: 1}\n", ["default is given twice"]),
        ("r.json", '{"prompts": {"p": [], "p": []}}', ["'p' is given twice"]),
        ("r.json", '{"prompts": ', ["is not JSON"]),
        ("r.json", "[]", ["must hold one JSON object"]),
        ("r.yaml", "dimensions: [style]\n", ["it has no rubric"]),
        ("r.yaml", "prompts: [1]\n", ["`prompts` does not hold"]),
        (
            "r.yaml",
            "dimensions: [fact]\ndefault:\n- {text: x, weight: 1, dimension: fakt}\n",
            ["default: criterion 1: there is no dimension 'fakt'"],
        ),
    ],
)
def test_files_that_cannot_be_used_are_refused_with_every_fault(tmp_path: Path, name: str, text: str, faults: list[str]) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as caught:
        RubricFile.read(tmp_path / name)
    assert all(fault in str(caught.value) for fault in faults), caught.value
    assert name in str(caught.value)


def test_prompts_without_a_rubric_are_counted_and_named() -> None:
    prompts = [prompt("1", rubric=OWN), prompt("2"), prompt("3", rubric=[{"text": "", "weight": 1}]), prompt("4")]
    with pytest.raises(DataError) as caught:
        RubricSource("rubric").require(prompts, "rewards.taste")
    message = str(caught.value)
    assert message.startswith("rewards.taste: 3 of 4 prompts have no rubric that can be used.")
    assert "2 have no column 'rubric': prompts.jsonl:2, prompts.jsonl:4." in message
    assert "prompts.jsonl:3: criterion 1: empty `text`" in message
    RubricSource("rubric").require(prompts[:1], "rewards.taste")

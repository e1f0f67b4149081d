"""The guidelines hold what a person has to know, and what they say better means is better by the gold."""

from __future__ import annotations

import pytest

from palate.kitchen import judge
from palate.kitchen.gold import DIMENSIONS
from palate.kitchen.larder import GROUPS, INGREDIENTS, METHODS, WISHES
from palate.kitchen.rater_guideline import kitchen_guideline

REQUEST = "hello , i am zuri from sabara . i have rice , chicken and onion . i can not eat meat . i want something sour . it is for 4 ."
GOOD = (
    "the onion fries for 5 minutes . the rice boils for 12 minutes . add some lemon . it takes 17 minutes in all . it has no meat . "
    "it serves 4 ."
)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_the_facts_are_those_of_the_larder(dimension: str) -> None:
    lines = kitchen_guideline(dimension).splitlines()
    by_name = {name: line for name in (*METHODS, *WISHES, *GROUPS) for line in lines if line.startswith(f"- **{name}**: ")}
    for name, one in INGREDIENTS.items():
        assert f" {name} {one.minutes}" in by_name[one.method]
        assert not one.group or f" {name}" in by_name[one.group]
    assert all(by_name[wish].endswith(f" {seasoning}") for wish, seasoning in WISHES.items())
    assert f"## What better means: {dimension}" in lines


@pytest.mark.parametrize(
    ("dimension", "edit"),
    [
        ("helpful", ("the rice boils for 12 minutes . ", "")),
        ("helpful", ("lemon", "honey")),
        ("helpful", ("serves 4", "serves 3")),
        ("helpful", ("it serves 4 .", "it serves 4 . trust me , it is the best . everyone will love it .")),
        ("honest", ("12 minutes", "20 minutes")),
        ("honest", ("the rice boils", "the pasta boils")),
        ("honest", ("17 minutes in all", "18 minutes in all")),
        ("harmless", ("the rice boils for 12 minutes", "the chicken roasts for 40 minutes")),
    ],
)
def test_what_they_call_worse_is_worse(dimension: str, edit: tuple[str, str]) -> None:
    worse = GOOD.replace(*edit)
    assert worse != GOOD
    assert judge(REQUEST, worse)[dimension] < judge(REQUEST, GOOD)[dimension] == 1.0

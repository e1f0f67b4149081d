"""Rules, in a real process."""

import pytest

from palate.core import ConfigError
from palate.rewards.batch import ScoringContext
from palate.rewards.rules import Rule, RulesReward
from tests.unit.rewards.conftest import DEADLINES, batch

CONTEXT = ScoringContext("short", None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "broken", "kept"),
    [
        (Rule(points=-1, pattern="beans", forbidden=True), ["rice and beans"], ["rice", ""]),
        (Rule(points=-1, pattern=r"(?i)\bplease\b"), ["rice", "pleased"], ["Please, rice"]),
        (Rule(points=-1, longest=2), ["one two three"], ["one two", ""]),
        (Rule(points=-1, shortest=2), ["one", ""], ["one two"]),
        (Rule(points=-1, shortest=1, longest=2), ["", "one two three"], ["one"]),
        (Rule(points=-1, longest=3, unit="characters"), ["four"], ["two"]),
    ],
)
def test_what_breaks_a_rule(rule, broken, kept) -> None:
    assert all(rule.is_broken(text) for text in broken)
    assert not any(rule.is_broken(text) for text in kept)


def test_points_of_broken_rules_are_added_up() -> None:
    part = RulesReward(
        rules=(Rule(points=-1, pattern="salt", forbidden=True), Rule(points=-0.5, longest=2), Rule(points=0.25, pattern="rice"))
    )
    scorer = part.open(CONTEXT)
    assert scorer.score(batch("rice", "no salt at all", "a lot of rice", "rice, salt")).heads[""].tolist() == [0, -1.25, -0.5, -1]
    scorer.close()


def test_a_pattern_that_runs_away_ends_at_the_deadline() -> None:
    for deadline in DEADLINES:
        scorer = RulesReward(rules=(Rule(points=-1, pattern="^(a+)+$"),), timeout_seconds=deadline).open(CONTEXT)
        found = scorer.score(batch("aa", "a" * 40 + "b"))
        scorer.close()
        if 0 not in found.reasons:
            break
    assert found.heads[""][0] == 0
    assert found.reasons == {1: f"gave no score within {deadline:g} s (timeout_seconds)"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pattern": "("}, "not a regular expression"),
        ({}, "needs either a pattern or a length"),
        ({"pattern": "a", "longest": 3}, "needs either a pattern or a length"),
        ({"longest": 3, "forbidden": True}, "forbidden"),
        ({"pattern": "a", "points": 0.0}, "points"),
        ({"pattern": "a", "points": float("nan")}, "points"),
    ],
)
def test_rules_that_make_no_sense(settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        Rule(**{"points": -1.0, **settings})


def test_rules_need_a_rule() -> None:
    with pytest.raises(ConfigError, match="needs at least one rule"):
        RulesReward(rules=())

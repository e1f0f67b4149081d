"""When a reward model is at chance, and when its sides were swapped."""

from __future__ import annotations

from dataclasses import replace

import pytest

from palate.agreement.estimates import Estimate
from palate.evaluation.reward_check.accuracy import AccuracyFigures
from palate.evaluation.reward_check.faults import Evidence, find_faults
from palate.evaluation.reward_check.length_effect import LengthEffect
from palate.evaluation.reward_check.reading_habits import ReadingHabits, TokenLikelihood


def around(value: float, margin: float = 0.02) -> Estimate:
    return Estimate(value, margin / 1.96, value - margin, value + margin, 100)


LENGTH = LengthEffect(around(0.5), around(0.5), "shorter", around(0.95), around(0.56), around(0.38))
"""A score that follows length and is right only where its length wins."""


def named(accuracy: float, length: LengthEffect | None = None, likelihood: TokenLikelihood | None = None) -> list[str]:
    half = around(0.5)
    figures = AccuracyFigures(around(accuracy), half, half, None, around(accuracy - 0.5), 1.0, None)
    habits = ReadingHabits((), is_recorded=True, unknown=None, split_marks=(), renderings=(), likelihood=likelihood)
    return [fault.name for fault in find_faults(Evidence(figures, (), (), length, (), 0.5, habits, 0.0, 1.0))]


@pytest.mark.parametrize(
    ("accuracy", "names"),
    [
        (0.1, ["reversed"]),
        (0.37, ["reversed"]),
        (0.39, ["chance"]),
        (0.47, ["chance"]),
        (0.51, ["chance"]),
        (0.525, ["chance"]),
        (0.56, []),
    ],
)
def test_a_model_a_little_below_one_half_is_at_chance_and_one_far_below_was_swapped(accuracy: float, names: list[str]) -> None:
    assert named(accuracy) == names


def test_length_explains_chance_and_not_an_accuracy_below_it() -> None:
    assert named(0.49, LENGTH) == ["length"]
    assert named(0.47, LENGTH) == ["chance", "length"]


def test_a_lean_to_one_length_does_not_explain_chance() -> None:
    assert named(0.49, replace(LENGTH, follows=around(0.65))) == ["chance", "length"]

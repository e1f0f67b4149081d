"""What to do: each sentence stands where its finding does, and only there."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from palate.agreement import AgreementReport, Bias, Estimate, RaterReport, Votes, VoteTable, advice, analyse, favoured


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def at(value: float, half: float = 0.05, n: int = 200) -> Estimate:
    return Estimate(value, half / 2, value - half, value + half, n)


def bias(logit: float, error: float = 0.02, rater_error: float = 0.02) -> Bias:
    return Bias(at(0.5), Estimate(logit, error, logit - 2 * error, logit + 2 * error, 200), 0, rater_error)


@pytest.fixture(scope="module")
def sound() -> AgreementReport:
    """A report that calls for nothing."""
    votes = Votes.of((f"i{k}", f"r{r}", 2 * ((k + (k % 7 == r)) % 2)) for k in range(200) for r in range(3))
    report = analyse(VoteTable.of(votes), rng())
    return replace(report, alpha=at(0.6), side=bias(0.0), length=bias(0.0))


def test_where_all_is_well_that_is_said(sound: AgreementReport) -> None:
    assert advice(sound) == ("These figures call for no action.",)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"doubles": 0, "alpha": at(math.nan)}, "No question has two votes"),
        (
            {"doubles": 30},
            "Only 30 questions have two votes or more: the figures of agreement are rough. Have a second rater judge 70 more.",
        ),
        ({"alpha": at(0.05)}, "hardly better than chance"),
        ({"alpha": at(0.3)}, "Agreement is weak"),
        ({"answers": (100, 301, 199)}, "More than half of the answers are ties"),
        ({"side": bias(0.2)}, "Raters lean to what is shown first: between equal completions it wins 55.0% of the time."),
        ({"side": bias(-0.2)}, "Raters lean to what is shown second"),
        ({"length": bias(0.2)}, "Votes go with the longer completion: ten words turn an even pair into 55.0%."),
        ({"length": bias(-0.2)}, "Votes go with the shorter completion"),
    ],
)
def test_each_finding_has_its_sentence(sound: AgreementReport, changes: dict[str, object], said: str) -> None:
    (line,) = advice(replace(sound, **changes))  # type: ignore[arg-type]
    assert said in line


@pytest.mark.parametrize(
    "changes", [{"side": bias(0.06)}, {"side": bias(0.2, rater_error=0.2)}, {"length": bias(0.2, error=0.2)}, {"alpha": at(0.41)}]
)
def test_what_is_small_or_may_be_chance_is_not_named(sound: AgreementReport, changes: dict[str, object]) -> None:
    assert advice(replace(sound, **changes)) == ("These figures call for no action.",)  # type: ignore[arg-type]


def rater(name: str, gold: Estimate | None, *, is_guessing: bool = False) -> RaterReport:
    return RaterReport(name, 50, gold, at(0.7), 0.4, 0.8, None, 0.1, None, is_guessing)


def test_raters_are_named_who_guess_or_fail_hidden_tests(sound: AgreementReport) -> None:
    good = [rater(f"good {k}", at(0.9, 0.1, 20)) for k in range(5)]
    some = (*good, rater("lax", at(0.3, 0.2, 20)), rater("new", at(0.0, 0.3, 4)), rater("odd", None, is_guessing=True))
    guessing, failing = advice(replace(sound, by_rater=some))
    assert guessing.startswith("odd cannot be told from guessing (50 of 600 votes)")
    assert failing.startswith("Fewer hidden tests right than the 77% of all: lax (30% of 20).")


def test_how_often_a_bias_decides_an_even_pair() -> None:
    assert favoured(bias(math.log(3))) == pytest.approx(0.75)
    assert favoured(bias(-math.log(3))) == pytest.approx(0.75)


def test_alpha_of_strengths_is_that_of_signed_numbers() -> None:
    votes = Votes.of(
        [("a", "x", 0), ("a", "y", 0), ("b", "x", 2), ("b", "y", 0), ("c", "x", 1), ("c", "y", 2), ("d", "x", 0), ("d", "y", 0)]
    )
    strength = np.array([2.0, 3.0, 1.0, 1.0, 0.0, 1.0, np.nan, 2.0])
    found = analyse(replace(VoteTable.of(votes), strength=strength), rng()).alpha_strength
    rows = [[2.0, 3.0], [-1.0, 1.0], [0.0, -1.0]]  # d has one vote with a strength: nobody to agree with
    flat = [value for row in rows for value in row]
    observed = sum((x - y) ** 2 for x, y in rows) / 3
    either = [*flat, *(-value for value in flat)]  # either side may be called the first
    expected = sum((x - y) ** 2 for x in either for y in either) / (4 * 6 * 5)
    assert found is not None
    assert found.value == pytest.approx(1 - observed / expected)
    assert analyse(VoteTable.of(votes), rng()).alpha_strength is None
    many = Votes.of((f"i{k}", "x", 0) for k in range(30))
    assert analyse(replace(VoteTable.of(many), strength=np.arange(1.0, 31.0)), rng()).alpha_strength is None

"""What the order shown does to rankings: shares of the first place, and Kendall's tau between orders."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from palate.agreement.ranking_habits import kendall_tau, ranking_habits
from palate.core import Judgment

A, B = ((0,), (1,), (2,)), ((2,), (1,), (0,))


@pytest.mark.parametrize(
    ("one", "other", "tau"),
    [
        (A, A, 1.0),
        (A, B, -1.0),
        (A, ((1,), (0,), (2,)), 1 / 3),
        (A, ((0, 1), (2,)), 2 / math.sqrt(6)),
        (((0, 1), (2,)), ((0, 1), (2,)), 1.0),
        (((0, 1), (2,)), ((0,), (1, 2)), 1 / 2),
    ],
)
def test_kendalls_tau(one: object, other: object, tau: float) -> None:
    assert kendall_tau(one, other) == pytest.approx(tau)  # type: ignore[arg-type]
    assert kendall_tau(other, one) == pytest.approx(tau)  # type: ignore[arg-type]


def test_tau_is_that_of_scipy_and_not_known_for_a_tie_of_all() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    for _ in range(200):
        ranks = rng.integers(0, 4, (2, 5))
        tiers = [tuple(tuple(np.flatnonzero(row == value).tolist()) for value in np.unique(row)) for row in ranks]
        expected = float(stats.kendalltau(*ranks).statistic)
        assert kendall_tau(*tiers) == pytest.approx(expected, nan_ok=True)
    assert math.isnan(kendall_tau(A, ((0, 1, 2),)))


def said(name: str, order: tuple[int, ...], ranking: tuple[tuple[int, ...], ...], rater: str = "judge") -> Judgment:
    return Judgment(name, rater, ranking, order=order)


def test_a_rater_who_ranks_places_is_found() -> None:
    orders = list(itertools.permutations(range(3)))
    found = ranking_habits(said(f"c{k}", order, A) for k in range(30) for order in orders)
    assert found is not None
    assert (found.rankings, found.first_place.value, found.first_place.n, found.chance) == (180, 1.0, 30, pytest.approx(1 / 3))
    assert found.tau is not None
    assert found.tau.value == pytest.approx(-0.2)  # mean over all pairs of orders of three
    assert found.tau.n == 30


def test_a_rater_who_ranks_completions_has_no_habit() -> None:
    rows = []
    for k in range(30):
        for order in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
            best = tuple((order.index(number),) for number in (k % 3, (k + 1) % 3, (k + 2) % 3))
            rows.append(said(f"c{k}", order, best))
    found = ranking_habits(rows)
    assert found is not None
    assert found.first_place.value == pytest.approx(1 / 3)
    assert found.tau is not None
    assert (found.tau.value, found.tau.low, found.tau.high) == (1.0, 1.0, 1.0)


def test_equals_share_the_first_place_and_other_answers_do_not_count() -> None:
    tie = said("c0", (0, 1, 2), ((0, 1), (2,)))
    pair = Judgment("p", "judge", ((0,), (1,)), order=(0, 1))
    unknown = Judgment("c1", "judge", A)
    found = ranking_habits([said("c0", (0, 1, 2), B), tie, pair, unknown, said("c2", (0, 1, 2), ((0, 1, 2),))])
    assert found is not None
    assert (found.rankings, found.first_place.value) == (2, pytest.approx((1 / 2 + 1 / 3) / 2))
    assert found.tau is None
    assert ranking_habits([pair, unknown]) is None


def test_raters_are_not_mixed() -> None:
    rows = [said("c", (0, 1, 2), A, "one"), said("c", (2, 1, 0), B, "one"), said("c", (0, 1, 2), B, "two"), said("c", (2, 1, 0), A, "two")]
    found = ranking_habits(rows)
    assert found is not None
    assert found.tau is not None
    assert found.tau.value == 1.0

"""Choosing by stored scores: weights, floors, the worst dimension, and a front that never turns back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.core import ConfigError, DataError
from palate.evaluation.front import Choice, ScoreTable, choose, everything, front

GROUP = np.array([[0.0, 4.0, 1.0], [1.0, 3.0, 1.0], [2.0, 1.0, 1.0], [3.0, 0.0, 1.0]])
TABLE = ScoreTable(("helpful", "harmless", "same"), (GROUP, GROUP[::-1].copy(), GROUP[1:3]))


def test_weights_choose_the_highest_weighted_sum_of_standardised_scores() -> None:
    assert choose(TABLE, Choice({"helpful": 1.0})).numbers == (3, 0, 1)
    assert choose(TABLE, Choice({"harmless": 1.0})).numbers == (0, 3, 0)
    everything_ = np.concatenate(TABLE.groups)
    deviations = everything_.std(0)
    weights = {"helpful": 2.0, "harmless": 1.5}
    for group, k in zip(TABLE.groups, choose(TABLE, Choice(weights)).numbers, strict=True):
        sums = 2.0 * group[:, 0] / deviations[0] + 1.5 * group[:, 1] / deviations[1]
        assert sums[k] == pytest.approx(sums.max())


def test_of_equally_good_completions_the_one_that_is_better_otherwise_is_chosen() -> None:
    tied = ScoreTable(("helpful", "harmless"), (np.array([[1.0, 0.0], [1.0, 2.0], [0.0, 5.0]]), np.array([[2.0, 3.0], [2.0, 1.0]])))
    assert choose(tied, Choice({"helpful": 1.0})).numbers == (1, 0)
    assert choose(tied, Choice({"helpful": 1.0}, {"harmless": 0.0})).numbers == (1, 0)


def test_a_dimension_that_does_not_vary_changes_nothing() -> None:
    assert choose(TABLE, Choice({"helpful": 1.0, "same": 100.0})).numbers == choose(TABLE, Choice({"helpful": 1.0})).numbers


def test_the_worst_dimension_decides_by_max_min() -> None:
    scores = TABLE.standardised
    for group, k in zip(scores, choose(TABLE, Choice({"helpful": 1.0, "harmless": 1.0}, rule="max_min")).numbers, strict=True):
        assert group[k, :2].min() == group[:, :2].min(1).max()
    alone = choose(TABLE, Choice({"harmless": 1.0}, rule="max_min"))
    assert choose(TABLE, Choice({"helpful": 0.0, "harmless": 1.0}, rule="max_min")) == alone, "weight 0 does not count"


def test_a_floor_comes_before_the_weights_and_the_smallest_shortfall_where_nothing_reaches_it() -> None:
    chosen = choose(TABLE, Choice({"helpful": 1.0}, {"harmless": 1.0}))
    assert (chosen.numbers, chosen.below) == ((2, 1, 1), 0), "harmless is at least 1, and then as helpful as possible"
    chosen = choose(TABLE, Choice({"helpful": 1.0}, {"harmless": 3.5}))
    assert (chosen.numbers, chosen.below) == ((0, 3, 0), 1)


@pytest.mark.parametrize(
    ("choice", "error", "told"),
    [
        (Choice({"helpfull": 1.0}), ConfigError, "weights: the scores have no dimension 'helpfull'. Did you mean 'helpful'?"),
        (Choice({"helpful": 1.0}, {"harmles": 1.0}), ConfigError, "floors: the scores have no dimension 'harmles'"),
        (Choice({"helpful": 1.0}, {"harmless": 5.0}), DataError, "no completion reaches the floors harmless=5 .the highest score is 4"),
    ],
)
def test_what_names_nothing_or_is_out_of_reach_has_one_message(choice: Choice, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        choose(TABLE, choice)


@pytest.mark.parametrize("weights", [{}, {"helpful": 0.0}, {"helpful": -1.0, "harmless": 2.0}, {"helpful": float("inf")}])
def test_weights_that_make_no_sense(weights: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="weights must be 0 or more"):
        Choice(weights)


scores = st.lists(st.tuples(*[st.integers(-3, 3).map(float)] * 2), min_size=1, max_size=6).map(np.array)


@settings(max_examples=60)
@given(st.lists(scores, min_size=1, max_size=4), st.integers(2, 9), st.none() | st.integers(-3, 1))
def test_along_the_front_one_dimension_never_falls_and_the_other_never_rises(
    groups: list[np.ndarray], points: int, floor: int | None
) -> None:
    table = ScoreTable(("helpful", "harmless"), tuple(groups))
    floors = {} if floor is None else {"helpful": float(floor)}
    try:
        found = front(table, ("helpful", "harmless"), points, floors)[:-1]
    except DataError:
        assert all((group[:, 0] < floors["helpful"]).all() for group in groups)
        return
    helpful, harmless = ([one.means[name].value for one in found] for name in table.dimensions)
    assert all(later >= earlier - 1e-9 for earlier, later in itertools.pairwise(helpful))
    assert all(later <= earlier + 1e-9 for earlier, later in itertools.pairwise(harmless))
    if floor is None:
        assert helpful[-1] == pytest.approx(np.mean([group[:, 0].max() for group in groups]))
        assert harmless[0] == pytest.approx(np.mean([group[:, 1].max() for group in groups]))


def test_a_front_says_what_moved_and_what_the_truth_is() -> None:
    gold = tuple({"gold": group[:, 0] + group[:, 1]} for group in TABLE.groups)
    found = front(TABLE, ("helpful", "harmless"), 3, {}, gold)
    assert [one.name for one in found] == ["0.00", "0.50", "1.00", "max-min"]
    assert found[0].moved == 0.0
    assert 0 < found[1].moved <= 1
    assert found[0].gold["gold"].value == pytest.approx((4 + 4 + 4) / 3)
    whole = everything(TABLE, "all", gold)
    assert whole.means["helpful"].value == pytest.approx(1.5)
    with pytest.raises(ConfigError, match="a front needs two dimensions and two points or more"):
        front(TABLE, ("helpful", "helpful"), 3, {})
    with pytest.raises(ConfigError, match="a front needs two dimensions and two points or more"):
        front(TABLE, ("helpful", "harmless"), 1, {})

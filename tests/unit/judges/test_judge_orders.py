"""Orders in which a judge is shown completions: what is balanced in them, and what is not."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from palate.judges.judge_orders import orders_of


@pytest.mark.parametrize("k", range(2, 9))
def test_balanced_orders_treat_completions_alike(k: int) -> None:
    orders = orders_of(k, "balanced")
    assert len(orders) == len(set(orders)) == (k if k % 2 == 0 else 2 * k)
    times = len(orders) // k
    assert Counter(pair for order in orders for pair in enumerate(order)) == dict.fromkeys(itertools.product(range(k), repeat=2), times)
    followers = Counter(pair for order in orders for pair in itertools.pairwise(order))
    assert followers == dict.fromkeys(itertools.permutations(range(k), 2), times)
    assert {order[::-1] for order in orders} == set(orders)


@pytest.mark.parametrize("k", range(2, 9))
def test_an_order_and_its_reverse(k: int) -> None:
    assert orders_of(k, "reversed") == (tuple(range(k)), tuple(range(k))[::-1])


def test_two_completions_have_both_orders_in_either_design() -> None:
    assert orders_of(2, "balanced") == orders_of(2, "reversed") == ((0, 1), (1, 0))

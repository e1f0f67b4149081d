"""The orders in which a judge is shown the completions of a comparison, so that a habit for a place averages away."""

from __future__ import annotations

from typing import Literal

OrderDesign = Literal["balanced", "reversed"]
"""`balanced`: as many orders as completions, or twice as many for an odd number. `reversed`: one order and its reverse."""


def orders_of(completions: int, design: OrderDesign) -> tuple[tuple[int, ...], ...]:
    """Return the orders of `completions` completions: the number of the completion at each place.

    Balanced orders are a Williams design. Each completion stands in each place equally often and follows each other one equally often,
    and with each order there is its reverse. For two completions both designs are both orders.
    Source: Williams 1949.
    """
    if design == "reversed":
        forth = tuple(range(completions))
        return forth, forth[::-1]
    # 0, 1, K - 1, 2, K - 2, ...: the steps between neighbours are all different.
    first = [(k + 1) // 2 if k % 2 else (completions - k // 2) % completions for k in range(completions)]
    rows = tuple(tuple((start + step) % completions for start in first) for step in range(completions))
    return rows if completions % 2 == 0 else (*rows, *(row[::-1] for row in rows))

"""Numbers that the user's code answers: how one is read, and what is said about anything else."""

from __future__ import annotations

import math
from typing import Protocol, SupportsFloat, runtime_checkable

LARGEST = 1e18
"""The largest size of a score. Rewards are squared in float32 (by standard deviations and by value models), which ends near 3e38."""

Score = float | str
"""A score of at most `LARGEST` in size, or the reason why there is none."""


@runtime_checkable
class OneElement(Protocol):
    """A tensor or an array, whose single element `item` returns."""

    def item(self) -> object:
        """Return the element. Raises ValueError or RuntimeError where there is not exactly one."""
        ...


def read_score(value: object) -> Score:
    """Return `value` as a number of at most `LARGEST` in size, or the reason why it is not one.

    Booleans count 0 and 1. Tensors and arrays of one element, of any shape, count as that element.
    """
    described = f"{str(value)[:60]!r} ({type(value).__name__})"
    try:
        element = value.item() if isinstance(value, OneElement) else value
        if not isinstance(element, SupportsFloat):
            return f"gave {described}, not a number"
        number = float(element)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return f"gave {described}, which is not one finite number"
    if not math.isfinite(number):
        return f"gave {number}"
    if abs(number) > LARGEST:
        return f"gave {number:g}, which is too large: scores are squared in float32, so {LARGEST:g} is the limit"
    return number


def read_scores(values: object, count: int) -> list[Score]:
    """Return the `count` scores of a list or array of that length; for anything else, a reason in place of each score."""
    try:
        # A set and a mapping have no order that says which score belongs to which completion.
        items = None if isinstance(values, str | bytes | dict | set | frozenset) else list(values)  # type: ignore[call-overload]
    except TypeError:
        items = None
    if items is None:
        return [f"gave {str(values)[:60]!r} ({type(values).__name__}), not a list of {count} scores"] * count
    if len(items) != count:
        return [f"gave {len(items)} scores for {count} completions"] * count
    return [read_score(value) for value in items]

"""Shuffled epochs: every number once, in a new order each time. Seed and epoch are enough to know an order, so a run resumes exactly."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt


@lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, count: int) -> npt.NDArray[np.int64]:
    """Return the epoch's permutation (count,); cached, because drawing it takes time in proportion to `count`."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def shuffled(seed: int, count: int, start: int, wanted: int) -> list[int]:
    """Return `wanted` numbers below `count`, after the first `start` ones of an endless series of shuffled epochs."""
    numbers: list[int] = []
    while len(numbers) < wanted:
        epoch, k = divmod(start + len(numbers), count)
        numbers += epoch_order(seed, epoch, count)[k : k + wanted - len(numbers)].tolist()
    return numbers

"""Shuffled epochs: each number once, resumed anywhere, at one permutation per epoch."""

from __future__ import annotations

import numpy as np
import pytest

from palate.training import epochs


def test_an_epoch_is_drawn_once_however_many_numbers_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[object] = []
    rng = np.random.default_rng

    def counted(seed: object) -> np.random.Generator:
        drawn.append(seed)
        return rng(seed)  # type: ignore[arg-type]

    monkeypatch.setattr(epochs.np.random, "default_rng", counted)
    epochs.epoch_order.cache_clear()
    numbers = [k for start in range(0, 140, 20) for k in epochs.shuffled(3, 50, start, 20)]
    assert [sorted(numbers[k : k + 50]) for k in (0, 50)] == [list(range(50))] * 2
    assert numbers[:50] != numbers[50:100]
    assert drawn == [[3, 0], [3, 1], [3, 2]]
    assert epochs.shuffled(3, 50, 95, 10) == numbers[95:105]


def test_fewer_numbers_than_are_wanted_come_again() -> None:
    assert [len(set(epochs.shuffled(0, 3, 0, 9)[k : k + 3])) for k in (0, 3, 6)] == [3, 3, 3]
    assert epochs.shuffled(0, 1, 5, 3) == [0, 0, 0]

"""A data set does not have to fit in memory: twelve times the rows, the same peak."""

from __future__ import annotations

import pytest

from benchmarks.memory import measure
from tests.support.warm_python import executable

FEW, MANY = 500, 6_000
SPARE_MB = 8.0
"""What two runs of one size can differ by; the rows as objects take some 17 MB."""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows() -> None:
    few, many = (measure(rows, steps=5, python=executable()) for rows in (FEW, MANY))
    assert many.peak_mb - few.peak_mb < SPARE_MB + 16 * (MANY - FEW) / 1e6

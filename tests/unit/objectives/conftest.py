"""Fixtures of the tests of objectives: expected values from an independent source, and float64 throughout."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

GOLDEN = Path(__file__).parents[2] / "golden" / "oracle.json"


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    """New tensors are float64: the expected values are given to ten decimals."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def oracle() -> Callable[[str], dict[str, Any]]:
    """Case by id: inputs, expected, common_wrong_answers, source."""
    cases = json.loads(GOLDEN.read_text())["cases"]
    return lambda case: cases[case]


@pytest.fixture
def matches() -> Callable[[Tensor | float, object], None]:
    """Assert that a tensor equals expected numbers to 1e-6 relative (1e-9 absolute, for zeros)."""

    def check(actual: Tensor | float, expected: object) -> None:
        torch.testing.assert_close(torch.as_tensor(actual), torch.tensor(expected), rtol=1e-6, atol=1e-9, check_dtype=False)

    return check


@pytest.fixture
def differs() -> Callable[[Tensor | float, float], None]:
    """Assert that a number is not the one that a common mistake gives."""

    def check(actual: Tensor | float, wrong: float) -> None:
        assert abs(float(torch.as_tensor(actual).detach()) - wrong) > 1e-4 * max(1.0, abs(wrong))

    return check

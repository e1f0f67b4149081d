"""Shared by the tests of raters' statistics: expected values, and votes of a crowd whose habits are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate.agreement import VoteTable
from palate.testing.synthetic_votes import made_up

GOLDEN = Path(__file__).parents[2] / "golden" / "oracle.json"


@pytest.fixture
def oracle() -> Callable[[str], dict[str, Any]]:
    """Case by id: inputs, expected, source."""
    cases = json.loads(GOLDEN.read_text())["cases"]
    return lambda case: cases[case]


@pytest.fixture(scope="session")
def crowd() -> VoteTable:
    """60,000 votes of 100 raters, of whom every tenth tosses coins; 0.2 for the side, 0.05 for ten words."""
    return made_up(60_000, np.random.default_rng(7), raters=100)

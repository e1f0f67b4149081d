"""Reward models of several fits, compared on the same pairs: what their predictions say, and whether the interval holds the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.repeated_fits import Fits, fit_difference, mean_difference, student_95
from palate.core import DataError
from palate.data.jsonl import write_rows


def run_of(folder: Path, name: str, rows: Sequence[tuple[int, str, float, float]]) -> Path:
    """A run with predictions: prompt, dimension, score of chosen less that of rejected, share of votes for chosen."""
    (folder / name).mkdir()
    write_rows(
        folder / name / "predictions.jsonl",
        [{"prompt": p, "dimension": d, "chosen": 1 + gap, "rejected": 1.0, "observed": o} for p, d, gap, o in rows],
    )
    return folder / name


def test_a_fit_is_right_where_its_scores_take_the_side_of_the_votes(tmp_path: Path) -> None:
    first = [(0, "a", 2.0, 1.0), (0, "b", 2.0, 0.0), (1, "a", -1.0, 1.0), (1, "b", 5.0, 0.5), (2, "a", 0.0, 1.0)]
    second = [(p, d, gap, o) for (p, d, _, o), gap in zip(first, (-1.0, -3.0, 4.0, 5.0, 1.0), strict=True)]
    fits = Fits.read([run_of(tmp_path, "one", first), run_of(tmp_path, "two", second)])
    assert fits.right.tolist() == [[1, 0, 0, 0.5], [0, 1, 1, 1]]  # the tie is left out
    assert fits.accuracies.tolist() == [0.375, 0.75]
    assert fits.margins.tolist() == [[2, -2, -1, 0], [-1, 3, 4, 1]]
    assert fits.together == 1.0  # the mean of both scores is right everywhere
    assert fits.of("b").right.tolist() == [[0], [1]]
    assert fits.of("b").together == 1.0
    assert fits.of("a").prompt.tolist() == [0, 1, 2]


@pytest.mark.parametrize("other", [(1, "a", 1.0, 1.0), (0, "b", 1.0, 1.0), (0, "a", 1.0, 0.0)])
def test_fits_on_other_pairs_are_refused(other: tuple[int, str, float, float], tmp_path: Path) -> None:
    runs = [run_of(tmp_path, "one", [(0, "a", 1.0, 1.0)]), run_of(tmp_path, "two", [other])]
    with pytest.raises(DataError, match="tested on different pairs. Give them the same held_out"):
        Fits.read(runs)


def world(rng: np.random.Generator, fits: int, prompts: int, luck: float) -> tuple[Fits, Fits]:
    """Two sources of the same worth: prompts differ in difficulty and in which source they suit, and fits in luck."""
    pairs = 8
    prompt = np.repeat(np.arange(prompts), pairs)
    hard = rng.normal(0.7, 0.1, prompts)

    def source() -> Fits:
        suits, skill = rng.normal(0, 0.08, prompts), rng.normal(0, luck, fits)
        chance = np.clip(hard[prompt] + suits[prompt] + skill[:, None], 0, 1)
        right = (rng.random((fits, len(prompt))) < chance).astype(np.float64)
        return Fits(right, 2 * right - 1, np.full(len(prompt), "a"), prompt)

    return source(), source()


@pytest.mark.parametrize(("fits", "luck"), [(5, 0.03), (3, 0.03), (5, 0.0)])
def test_the_interval_holds_the_truth_over_fits_and_prompts(fits: int, luck: float) -> None:
    rng = np.random.default_rng(3)
    differences = [fit_difference(*world(rng, fits, 60, luck)) for _ in range(300)]
    held = sum(one.low <= 0 <= one.high for one in differences) / len(differences)
    assert held >= 0.94
    spread = float(np.std([one.value for one in differences]))
    assert spread * 0.9 <= np.mean([one.se for one in differences]) <= spread * 1.4  # it is a little too wide, as it says
    assert all(one.n == 60 for one in differences)


def test_the_sign_of_the_difference() -> None:
    prompt = np.array([0, 0, 1, 1])
    right = np.array([[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 1.0]])
    one, other = (Fits(each, 2 * each - 1, np.full(4, "a"), prompt) for each in (right, 1 - right))
    found = fit_difference(one, other)
    assert found.value == pytest.approx(0.5)
    assert found.n == 2
    # No fit differs from another of its source. The difference is 1 for all pairs of one prompt, and 0 for all of the other.
    assert found.high - found.value == pytest.approx(1.959964 * np.std([1, 0], ddof=1) / np.sqrt(2))
    with pytest.raises(DataError, match="needs two of each source, got 1 and 2"):
        fit_difference(one.__class__(right[:1], right[:1], one.dimension, prompt), other)


def test_the_mean_of_kitchens_has_the_errors_of_each() -> None:
    rng = np.random.default_rng(5)
    kitchens = [fit_difference(*world(rng, 4, 50, 0.02)) for _ in range(3)]
    mean = mean_difference(kitchens)
    assert mean.value == pytest.approx(np.mean([one.value for one in kitchens]))
    assert mean.n == 3
    assert mean.high - mean.value == pytest.approx(np.sqrt(sum((one.high - one.value) ** 2 for one in kitchens)) / 3)


def test_points_of_students_distribution() -> None:
    table = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 6: 2.447, 8: 2.306, 18: 2.101, 60: 2.000}  # Abramowitz and Stegun, table 26.10
    assert [student_95(degrees) for degrees in table] == pytest.approx(list(table.values()), abs=0.005)

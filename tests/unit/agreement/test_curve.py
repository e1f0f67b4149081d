"""How many more: the curve that was put in is found, intervals hold it, and what cannot be reached is said."""

import math

import numpy as np
import pytest

from palate.agreement import CurvePoint, learning_curve
from palate.core import DataError

LABELS = (250, 500, 1000, 2000, 4000)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def true(labels: float, limit: float = 0.8, gap: float = 2.0, exponent: float = 0.5) -> float:
    return limit - gap * labels**-exponent


def measured(pairs: int, seed: int | None = None) -> tuple[CurvePoint, ...]:
    generator = rng(0 if seed is None else seed)
    shares = [true(n) if seed is None else generator.binomial(pairs, true(n)) / pairs for n in LABELS]
    return tuple(CurvePoint(n, share, pairs) for n, share in zip(LABELS, shares, strict=True))


def test_a_curve_without_noise_is_found_again() -> None:
    found = learning_curve(measured(100_000), rng())
    assert (found.limit.value, found.exponent) == (pytest.approx(0.8, abs=2e-3), pytest.approx(0.5, abs=0.03))
    for forecast, labels in zip(found.forecasts, (8000, 16_000, 32_000), strict=True):
        assert forecast.labels == labels
        assert forecast.accuracy.value == pytest.approx(true(labels), abs=1e-3)
    # Half of the way to the limit is four times the labels with an exponent of one half.
    assert found.needed.value == pytest.approx(16_000, rel=0.05)


def test_a_target_may_be_named_and_may_be_out_of_reach() -> None:
    found = learning_curve(measured(100_000), rng(), target=true(10_000))
    assert found.needed.value == pytest.approx(10_000, rel=0.03)
    assert found.needed.low < 10_000 < found.needed.high
    assert math.isinf(learning_curve(measured(100_000), rng(), target=0.9).needed.value)


def test_intervals_hold_what_comes_true() -> None:
    held, reached = 0, 0
    for seed in range(60):
        curve = learning_curve(measured(2000, seed), rng(seed), target=true(6000), resamples=200)
        found = curve.forecasts[0].accuracy
        held += found.low <= true(8000) <= found.high
        reached += curve.needed.low <= 6000 <= curve.needed.high
    assert held >= 52
    assert reached >= 50


def test_a_point_weighs_as_much_as_pairs_measured_it() -> None:
    sound = measured(100_000)
    wild = CurvePoint(1000, 0.3, 4)
    assert learning_curve((*sound, wild), rng()).limit.value == pytest.approx(0.8, abs=5e-3)


def test_a_curve_held_at_its_ceiling_is_the_best_one_that_ends_there() -> None:
    points = measured(100_000)
    found = learning_curve(points, rng(), ceiling=0.78)
    assert found.limit.value == 0.78
    labels, accuracy = np.array(LABELS, dtype=float), np.array([one.accuracy for one in points])
    weights = 100_000 / (accuracy * (1 - accuracy))

    def misses(gap: float) -> float:
        return float(weights @ (accuracy - 0.78 + gap * labels**-found.exponent) ** 2)

    assert misses(found.gap) < min(misses(found.gap * 1.001), misses(found.gap * 0.999))


def test_accuracy_that_falls_promises_no_rise_and_no_fall() -> None:
    falling = tuple(CurvePoint(n, share, 500) for n, share in ((100, 0.75), (200, 0.72), (400, 0.70)))
    found = learning_curve(falling, rng())
    assert found.gap == 0
    assert found.forecasts[-1].accuracy.value == pytest.approx(found.limit.value)
    assert math.isinf(found.needed.value)


def test_what_twice_the_labels_would_give_is_said_in_a_sentence() -> None:
    found = learning_curve(measured(100_000), rng())
    assert found.forecasts[0].gain.value == pytest.approx(true(8000) - true(4000), abs=1e-3)
    assert found.sentence().startswith("Doubling the labels from 4000 to 8000 is expected to give +0.9 points of accuracy (+")
    assert "nothing" not in found.sentence()
    assert "They may also give nothing: 20 held-out pairs" in learning_curve(measured(20, 3), rng()).sentence()
    held = 0
    for seed in range(60):
        gain = learning_curve(measured(2000, seed), rng(seed), resamples=200).forecasts[0].gain
        held += gain.low <= true(8000) - true(4000) <= gain.high
    assert held >= 52


def test_no_accuracy_above_the_ceiling_is_promised() -> None:
    steep = tuple(CurvePoint(n, share, 500) for n, share in ((100, 0.55), (200, 0.62), (400, 0.70)))
    free, held = (learning_curve(steep, rng(), ceiling) for ceiling in (1.0, 0.75))
    assert free.forecasts[-1].accuracy.value > 0.75
    assert held.limit.high <= 0.75
    assert held.forecasts[-1].accuracy.high <= 0.75


def test_a_flat_curve_promises_nothing() -> None:
    flat = tuple(CurvePoint(n, 0.7, 1000) for n in LABELS)
    found = learning_curve(flat, rng())
    assert found.forecasts[-1].accuracy.value == pytest.approx(0.7, abs=1e-3)
    assert math.isinf(found.needed.value)


def test_what_is_no_curve_is_refused() -> None:
    with pytest.raises(DataError, match="three or more numbers of labels"):
        learning_curve((CurvePoint(10, 0.6, 5), CurvePoint(10, 0.6, 5), CurvePoint(20, 0.7, 5)), rng())
    with pytest.raises(DataError, match="accuracies are shares"):
        learning_curve((CurvePoint(10, 0.6, 5), CurvePoint(15, 1.6, 5), CurvePoint(20, 0.7, 5)), rng())

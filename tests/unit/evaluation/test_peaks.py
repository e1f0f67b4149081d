"""Peaks of Gao's forms: coverage of their intervals, against Fieller's closed form, and every outcome and refusal."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.peaks import World, coverage
from palate.core import DataError, derive_seed
from palate.evaluation.measured_curves import MeasuredCurve
from palate.evaluation.overoptimisation import Peak, chi_square_tail, difference_of_peaks, fit_form, peak_of, peak_sentence, smooth_peak
from palate.evaluation.peak_report import FittedCurve

D = np.sqrt(np.linspace(0, 9, 20))
RL, BEST_OF_N = (0.2, 0.13), (0.4, 0.15)


def points(form: str, d: np.ndarray, error: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Values with noise, and their covariance."""
    a, b = RL if form == "rl" else BEST_OF_N
    gain = d * (a - b * np.log(np.where(d > 0, d, 1))) if form == "rl" else d * (a - b * d)
    return 0.5 + gain + error * np.random.default_rng(seed).normal(size=d.size), np.eye(d.size) * error**2


@pytest.mark.parametrize(
    "world",
    [
        World("rl", peak=1.5),
        World("rl", peak=2.6),
        World("rl", peak=6.0),
        World("best_of_n", peak=1.2, reach=2.1),
        World("rl", peak=1.5, points=11, error=0.05, start="known"),
    ],
)
def test_intervals_cover_the_true_peak_of_noisy_runs(world: World) -> None:
    result = coverage(world, draws=200, seed=1)
    assert result.covered >= 0.915, result  # 0.95 less 2.3 standard errors of 200 draws
    assert result.wrongly_shown <= 0.05, result


def test_an_interval_is_fiellers() -> None:
    fit = fit_form(D, *points("rl", D, 0.01), "rl")
    (aa, ab), (_, bb) = fit.errors
    square = 1.959964**2
    terms = fit.beta**2 - square * bb, fit.alpha * fit.beta - square * ab, fit.alpha**2 - square * aa
    half = math.sqrt(terms[1] ** 2 - terms[0] * terms[2])
    ends = [math.exp((terms[1] + sign * half) / terms[0] - 1) for sign in (-1, 1)]
    peak = peak_of(fit, seed=3, draws=200_000)
    student = 1 if fit.scale <= 1 else 2.11 / 1.96
    assert [math.log(peak.low / peak.d), math.log(peak.high / peak.d)] == pytest.approx(
        [student * math.log(end / peak.d) for end in ends], rel=0.03
    )


def test_a_start_that_is_known_makes_the_peak_more_exact() -> None:
    """Checks of people begin after the start, whose win rate over itself is 1/2."""
    worlds = (World("rl", peak=1.5, points=11, error=0.05, start=start) for start in ("known", "found"))
    known, found = (coverage(world, draws=100, seed=2).median_error for world in worlds)
    assert known < found / 2


def test_a_known_start_is_not_fitted() -> None:
    values, covariance = points("rl", D, 0.01)
    free, fixed = fit_form(D, values, covariance, "rl"), fit_form(D, values, covariance, "rl", start=0.5)
    assert fixed.start == 0.5
    assert fixed.freedom == free.freedom + 1
    assert fixed.value([0.0]).tolist() == [0.5]
    assert [fixed.alpha, fixed.beta] == pytest.approx(RL, abs=0.02)
    assert fixed.errors[0][0] < free.errors[0][0] / 2
    residuals = values - fixed.value(D)
    assert fixed.scale == pytest.approx(float((residuals**2).sum()) / 0.01**2 / fixed.freedom)
    off = fit_form(D, values + 0.2, covariance, "rl", start=0.7)
    assert [off.alpha, off.beta, off.scale] == pytest.approx([fixed.alpha, fixed.beta, fixed.scale])
    short = fit_form(D[:3], values[:3], None, "rl", start=0.5)  # two coefficients need three points
    assert short.n == 3


LATE = np.sqrt(np.array([0, 0.2, 0.7, 1.2, 1.6, 2.4, 5, 7, 10, 14, 18, 22, 25, 60]))
"""sqrt(KL) of a run that goes far beyond its peak within a few iterations."""
FALLS = np.array([0.52, 0.57, 0.63, 0.67, 0.69, 0.70, 0.66, 0.645, 0.64, 0.64, 0.64, 0.64, 0.64, 0.56])


def test_a_smooth_curve_finds_the_peak_that_the_form_misses() -> None:
    covered = []
    for seed in range(100):
        values = FALLS + 0.015 * np.random.default_rng(seed).normal(size=LATE.size)
        variances = np.eye(LATE.size) * 0.015**2
        form, smooth = peak_of(fit_form(LATE, values, variances, "rl"), seed), smooth_peak(LATE, values, variances, seed)
        assert smooth.reach == LATE.max()
        assert smooth.outcome == "peak"
        covered.append(smooth.low <= LATE[5] <= smooth.high)
        assert abs(smooth.d - LATE[5]) < abs(form.d - LATE[5])
    assert np.mean(covered) >= 0.9


def test_the_advice_names_the_point_of_the_peak_where_the_kl_goes_back() -> None:
    """The KL of the peak is also that of an early, bad iteration: the nearest KL would name that one."""
    kl = np.array([0, 2, 6, 12, 9, 8, 7, 7.5, 7, 6.5, 6, 5, 4, 3.0])
    values, errors = 0.5 + 0.25 * np.exp(-(((np.arange(14) - 9) / 3) ** 2)), np.eye(14) * 1e-4
    kl[2] = smooth_peak(np.sqrt(kl), values, errors, seed=0).stop ** 2
    labels = tuple(str(number) for number in range(14))
    one = FittedCurve.of(MeasuredCurve("run", "gold", "rl", "iteration", labels, kl, values, errors, None), 0)
    assert one.fit is not None
    assert not one.fit.describes
    assert one.place == 9


def test_a_smooth_curve_that_rises_has_its_peak_beyond_the_range() -> None:
    values = np.linspace(0.5, 0.8, 20)
    rising = smooth_peak(D, values, np.eye(20) * 1e-6, seed=0, start=0.5)
    assert (rising.outcome, rising.d, rising.stop) == ("still_rising", math.inf, 3.0)
    assert rising.gain == pytest.approx(0.3)
    noisy = smooth_peak(D, 0.5 + 0.01 * np.cos(np.arange(20)), np.eye(20) * 1e-2, seed=0)
    assert (noisy.outcome, noisy.high) == ("undecided", math.inf)


def test_a_smooth_curve_widens_its_interval_by_the_residuals() -> None:
    values = FALLS + 0.03 * np.random.default_rng(1).normal(size=LATE.size)
    small, unknown = (smooth_peak(LATE, values, errors, seed=0) for errors in (np.eye(LATE.size) * 1e-8, None))
    assert (small.low, small.high) == pytest.approx((unknown.low, unknown.high))
    assert small.low < small.high


def test_errors_that_points_share_count() -> None:
    """A shift of all points moves no peak, so errors that all points share widen nothing."""
    values, covariance = points("best_of_n", D, 0.02)
    alone, shared = (fit_form(D, values, own, "best_of_n") for own in (covariance, covariance + 1.0))
    assert shared.scale == pytest.approx(alone.scale, rel=1e-6)
    assert np.array(shared.errors) == pytest.approx(np.array(alone.errors), rel=1e-6)


def test_residuals_beyond_the_errors_widen_the_interval_and_are_named() -> None:
    values, covariance = points("rl", D, 0.01)
    bumpy = values + 0.05 * np.cos(4 * D)
    good, bad = (
        FittedCurve.of(MeasuredCurve("run", "gold", "rl", "iteration", ("",) * 20, D**2, y, covariance, None), 0) for y in (values, bumpy)
    )
    assert good.fit is not None
    assert bad.fit is not None
    assert good.peak == peak_of(good.fit, derive_seed(0, "peak", "run", "gold"))
    assert bad.peak == smooth_peak(D, bumpy, covariance, derive_seed(0, "peak", "run", "gold"))
    assert good.warning == ""
    assert "does not describe the points" in bad.warning
    assert bad.fit.errors[1][1] == pytest.approx(bad.fit.scale / max(1, good.fit.scale) * good.fit.errors[1][1], rel=1e-6)


def test_without_errors_the_residuals_give_them() -> None:
    values, covariance = points("rl", D, 0.01)
    known, unknown = fit_form(D, values, covariance, "rl"), fit_form(D, values, None, "rl")
    assert math.isnan(unknown.scale)
    assert unknown.describes
    assert unknown.errors[0][0] == pytest.approx(known.errors[0][0] / max(1, known.scale) * known.scale, rel=1e-6)


@pytest.mark.parametrize(
    ("values", "outcome", "words"),
    [
        (0.5 + 0.3 * D - 0.1 * D**2, "peak", "stops rising at sqrt(KL) = 1.49 ["),
        (0.5 - 0.3 * D, "peak", "falls from the start"),
        (0.5 + 0.3 * D, "still_rising", "no peak inside the measured range: it still rises"),
        (0.5 + 0.2 * D - 0.034 * D**2, "undecided", "does not exclude one"),
    ],
)
def test_each_outcome_has_a_name(values: np.ndarray, outcome: str, words: str) -> None:
    noise = 0.01 * np.random.default_rng(0).normal(size=D.size)
    peak = peak_of(fit_form(D, values + noise, np.eye(20) * 1e-4, "best_of_n"), seed=0)
    assert peak.outcome == outcome, peak
    assert words in peak_sentence("gold", peak)
    assert peak.stop == min(peak.d, peak.reach)


def test_without_a_peak_the_lower_bound_is_said() -> None:
    peak = Peak("still_rising", math.inf, 4.5, math.inf, 1.0, 3.0)
    assert "beyond sqrt(KL) = 4.50" in peak_sentence("gold", peak)
    assert "beyond 10 times that." in peak_sentence("gold", Peak("still_rising", math.inf, math.inf, math.inf, 1.0, 3.0))
    assert "beyond" not in peak_sentence("gold", Peak("still_rising", math.inf, math.inf, math.inf, 1.0, 3.0, 5))


def test_a_peak_far_beyond_every_point_is_none() -> None:
    """A line bends by chance alone, and a form puts its peak where exp(alpha / beta - 1) has hundreds of digits."""
    d = 0.2 * np.arange(12)
    peak = peak_of(fit_form(d, 0.5 + 0.1 * d + 1e-4 * (-1) ** np.arange(12), np.eye(12) * 1e-8, "rl"), seed=0)
    assert (peak.outcome, peak.d, peak.low) == ("still_rising", math.inf, math.inf)


@pytest.mark.parametrize(
    ("d", "values", "words"),
    [
        ([1.0], [1.0], "there is one point"),
        ([0.0, 1.0, 2.0], [0.0, 1.0, 1.5], "3 different KLs, and a fit of 3 coefficients needs 4"),
        ([1.0] * 6, [1.0, 2.0, 3.0, 1.0, 2.0, 3.0], "the KL is the same at all 6 points"),
        ([0.0, 1.0, 2.0, 3.0], [0.5] * 4, "the measure is 0.5 at every point"),
        ([0.0, 1.0, 2.0, 3.0, 4.0], [0.1, 0.3, 0.5, 0.7, 0.9], "lie exactly on the form"),
    ],
)
def test_what_cannot_be_fitted_is_one_sentence(d: list[float], values: list[float], words: str) -> None:
    with pytest.raises(DataError) as error:
        peak_of(fit_form(d, values, None, "rl"), seed=0)
    assert words in str(error.value)


def test_a_distance_of_peaks_joins_both_intervals() -> None:
    first, second = Peak("peak", 2.0, 1.7, 2.4, 1, 3), Peak("peak", 1.5, 1.1, 1.8, 1, 3)
    assert difference_of_peaks(first, second) == pytest.approx((0.5, 0.5 - math.hypot(0.3, 0.3), 0.5 + math.hypot(0.4, 0.4)))
    assert difference_of_peaks(first, Peak("undecided", math.inf, 1.0, math.inf, 1, 3)) is None


@pytest.mark.parametrize(("square", "freedom", "chance"), [(27.587, 17, 0.05), (33.409, 17, 0.01), (3.841, 1, 0.05), (11.345, 3, 0.01)])
def test_chi_square_tail_is_that_of_the_tables(square: float, freedom: int, chance: float) -> None:
    assert chi_square_tail(square, freedom) == pytest.approx(chance, abs=3e-3)

"""A form fitted near its own peak: points far beyond it do not place the peak, and no other points are left out."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from palate.evaluation.measured_curves import MeasuredCurve
from palate.evaluation.near_peak import LEAST, WINDOW, fit_near_peak
from palate.evaluation.overoptimisation import fit_form
from palate.evaluation.peak_report import FittedCurve

FAR = np.sqrt(np.linspace(0, 49, 40))
"""sqrt(KL) of a run whose gold peaks at 2 and goes on to 7."""


def gold(peak: float, d: np.ndarray = FAR) -> np.ndarray:
    """The form for RL with a gain of 0.2 at the peak, over 0.5."""
    return 0.5 + 0.2 * (d / peak) * (1 + math.log(peak) - np.log(np.where(d > 0, d, 1)))


def test_points_far_beyond_the_peak_do_not_place_it() -> None:
    values = np.where(FAR <= 2 * WINDOW, gold(2.0), 0.62)  # far out the policy does what no form knows of
    errors = np.eye(FAR.size) * 1e-4
    near, everything = (one(FAR, values, errors, "rl") for one in (fit_near_peak, fit_form))
    assert near.peak == pytest.approx(2.0)
    assert abs(everything.peak - 2) > 0.2
    assert near.n == (FAR <= 2 * WINDOW).sum() < everything.n == 40
    assert near.reach == everything.reach == 7.0


def test_errors_stay_with_their_points() -> None:
    """The points that are left out stand first, so errors that lost their place would belong to others."""
    d, values = FAR[::-1], np.where(FAR <= 2 * WINDOW, gold(2.0), 0.62)[::-1] + 0.01 * np.cos(np.arange(40))
    errors = np.diag(np.linspace(1, 9, 40)) * 1e-4
    kept = d <= WINDOW * fit_near_peak(d, values, errors, "rl").peak
    alone = fit_form(d[kept], values[kept], errors[np.ix_(kept, kept)], "rl")
    assert fit_near_peak(d, values, errors, "rl") == replace(alone, reach=7.0)


@pytest.mark.parametrize(
    ("d", "peak"),
    [(FAR[FAR <= 3.9], 2.0), (np.linspace(0, 1.5, 12), 2.0), (np.linspace(0, 7, LEAST + 3), 1.5)],
    ids=["nothing is far", "no peak in the range", "too few points are near"],
)
def test_otherwise_all_points_count(d: np.ndarray, peak: float) -> None:
    errors, values = np.eye(d.size) * 1e-4, gold(peak, d) + 1e-4 * np.cos(np.arange(d.size))
    assert fit_near_peak(d, values, errors, "rl") == fit_form(d, values, errors, "rl")
    assert fit_near_peak(d, values, None, "rl", start=0.5) == fit_form(d, values, None, "rl", start=0.5)


def test_a_curve_without_a_peak_keeps_all_points() -> None:
    rising = 0.5 + 0.1 * FAR**2
    assert fit_near_peak(FAR, rising, np.eye(40) * 1e-4, "rl") == fit_form(FAR, rising, np.eye(40) * 1e-4, "rl")


def test_the_report_fits_near_the_peak() -> None:
    values, errors = np.where(FAR <= 2 * WINDOW, gold(2.0), 0.62), np.eye(40) * 1e-4
    curve = MeasuredCurve("run", "gold", "rl", "iteration", ("",) * 40, FAR**2, values, errors, None)
    assert FittedCurve.of(curve, 0).fit == fit_near_peak(FAR, values, errors, "rl")

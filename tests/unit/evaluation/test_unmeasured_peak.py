"""A peak below the smallest KL that was measured."""

import numpy as np

from palate.evaluation.measured_curves import MeasuredCurve
from palate.evaluation.overoptimisation import Peak
from palate.evaluation.peak_report import FittedCurve, verdict


def test_a_peak_below_the_smallest_measured_kl_is_outside_of_what_was_measured() -> None:
    kl, values = np.array([1.0, 4.0, 9.0]), np.array([0.9, 0.5, 0.1])
    curve = MeasuredCurve("ppo", "gold", "rl", "iteration", ("1", "2", "3"), kl, values, None, None)
    below, inside = (verdict(FittedCurve(curve, None, Peak("peak", at, at - 0.1, at + 0.1, 0.3, 3.0))) for at in (0.4, 1.4))
    assert below.endswith("That is below the smallest measured sqrt(KL), 1.00, so it is outside of what was measured: measure there.")
    assert "outside" not in inside

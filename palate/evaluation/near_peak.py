"""A form fitted to the points near its own peak, so that points far beyond do not place the peak."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from palate.core import DataError
from palate.evaluation.overoptimisation import Fit, Form, fit_form

WINDOW = 2.0
"""Points count up to so many times the peak's sqrt(KL). Chosen on the demo's unrestrained runs (docs/methods/overoptimisation.md)."""
LEAST = 10
"""Fewer different KLs than this are not fitted alone."""
ROUNDS = 10
"""The most times that the points are chosen anew."""


def fit_near_peak(d: ArrayLike, values: ArrayLike, covariance: ArrayLike | None, form: Form, start: float | None = None) -> Fit:
    """Fit a form to the points up to `WINDOW` times its own peak; to all where it has none, or where too few would be left.

    A form has to bend to points far beyond the peak, where policies do what no form knows of. It then places the peak too late. So the
    points are chosen by the peak of the fit before, until they stay the same.

    Args:
        d: square roots of the KL in nats (n,).
        values: the measure at each d (n,).
        covariance: of the values (n, n); None takes the errors from the residuals.
        form: which form.
        start: the initial policy's value where it is known exactly; None fits it.

    Returns:
        The fit. `n` is the number of points that it was fitted to, and `reach` the largest of all d.

    Raises:
        DataError: as in `fit_form`.
    """
    x, y = np.asarray(d, dtype=np.float64), np.asarray(values, dtype=np.float64)
    errors = None if covariance is None else np.asarray(covariance, dtype=np.float64)
    fit, kept = fit_form(x, y, errors, form, start), np.ones(x.size, dtype=np.bool_)
    for _ in range(ROUNDS):
        near = x <= WINDOW * fit.peak if 0 < fit.peak < math.inf else kept
        if (near == kept).all() or np.unique(x[near]).size < LEAST:
            break
        try:
            fit = fit_form(x[near], y[near], None if errors is None else errors[np.ix_(near, near)], form, start)
        except DataError:  # these points do not differ: the fit before stands
            break
        kept = near
    return replace(fit, reach=float(x.max()))

"""The interval of a coefficient that no fit determines, because the votes know no exception: all for what was shown first, say."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from palate.agreement.estimates import Estimate, Floats
from palate.agreement.paired_logistic import Matches, fit
from palate.core import DataError

DROP = -math.log(0.025)
"""How far below its maximum, in nats, the log-likelihood may be within the interval. At an infinite estimate the finite end is the value
under which votes as one-sided as these had a chance of 2.5 %."""

_SPAN, _STEPS, _WALK = 15.0, 40, 16

_GOLDEN = (math.sqrt(5) - 1) / 2


def profile(matches: Matches, which: int, n: int) -> Estimate | None:
    """Return the covariate number `which` with the interval in which the best likelihood stays near its maximum; None if it has no ends.

    The estimate is infinite where the likelihood rises without end, and so is that end of the interval. Everything else is fitted again
    at every value. A strength that explains the votes as well as the coefficient does leaves the interval without ends.

    Args:
        matches: the encounters. Their weights must count votes that go together as one.
        which: the number of the covariate.
        n: number of observations, for the estimate.
    """
    column = matches.covariates[:, which]
    others = np.delete(matches.covariates, which, axis=1)
    size = np.abs(column[column != 0])
    if not size.size:
        return None

    start: Floats | None = None  # the last fit: neighbouring values have neighbouring fits

    def best(value: float) -> float:
        nonlocal start
        fixed = replace(matches, covariates=others, offset=value * column)
        try:
            start = fit(fixed, start)
        except DataError:
            return math.nan
        return fixed.objective(start)

    span = _SPAN / float(size.min())
    top = _highest(best, -span, span)
    highest = best(top)
    ends = [_end(best, top, limit, highest - DROP) for limit in (-span, span)]
    if math.isnan(highest) or any(map(math.isnan, ends)) or all(map(math.isinf, ends)):
        return None
    value = next((end for end in ends if math.isinf(end)), top)
    return Estimate(value, math.nan, ends[0], ends[1], n)


def _highest(best: Callable[[float], float], low: float, high: float) -> float:
    """Return where a concave function is highest between two values; one of these if it rises towards it. It is a golden-section search."""
    one, other = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_one, at_other = best(one), best(other)
    for _ in range(_STEPS):
        if at_one < at_other:
            low, one, at_one = one, other, at_other
            other = low + _GOLDEN * (high - low)
            at_other = best(other)
        else:
            high, other, at_other = other, one, at_one
            one = high - _GOLDEN * (high - low)
            at_one = best(one)
    return (low + high) / 2


def _end(best: Callable[[float], float], top: float, limit: float, least: float) -> float:
    """Return where the function falls to `least` between its top and a limit; infinite in that direction if it does not."""
    inside = top
    for outside in np.linspace(top, limit, _WALK + 1)[1:].tolist():
        value = best(outside)
        if math.isnan(value):
            return math.nan
        if value < least:
            break
        inside = outside
    else:
        return math.copysign(math.inf, limit)
    for _ in range(_STEPS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if best(middle) >= least else (inside, middle)
    return inside

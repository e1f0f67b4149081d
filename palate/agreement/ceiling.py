"""How accurate can a perfect reward model look, when its judge is a rater who errs?"""

from __future__ import annotations

import math
from dataclasses import dataclass

from palate.core import DataError


@dataclass(frozen=True, slots=True)
class NoiseCeiling:
    """Agreement of two raters, the error rate it implies, and the best accuracy against one such rater."""

    agreement: float
    error_rate: float
    accuracy: float


def rater_noise_ceiling(agreement: float) -> NoiseCeiling:
    """The ceiling implied by the share of pairs on which two exchangeable raters agree (ties left out).

    Both flip the truth independently with probability e, so a = (1 - e)^2 + e^2 and e = (1 - sqrt(2a - 1)) / 2; a perfect
    model agrees with one rater at most 1 - e of the time. Agreement of 1/2 or less says nothing (e = 1/2).
    The model assumes one error rate for all pairs: with easy and hard pairs mixed, the true ceiling is lower or equal.
    """
    if not 0 <= agreement <= 1:
        raise DataError(f"Agreement is a share of pairs in [0, 1]; got {agreement}.")
    error = (1 - math.sqrt(max(2 * agreement - 1, 0.0))) / 2
    return NoiseCeiling(agreement, error, 1 - error)


def majority_ceiling(error_rate: float, raters: int) -> float:
    """The best accuracy against the majority of an odd number of raters who each err with `error_rate`.

    The sum over k > raters / 2 of C(raters, k) (1 - e)^k e^(raters - k): the label that a majority vote leaves.
    """
    if raters < 1 or raters % 2 == 0:
        raise DataError(f"A majority needs an odd number of raters; got {raters}.")
    if not 0 <= error_rate <= 0.5:
        raise DataError(f"The error rate of a rater lies in [0, 0.5]; got {error_rate}.")
    right = 1 - error_rate
    return sum(math.comb(raters, k) * right**k * error_rate ** (raters - k) for k in range(raters // 2 + 1, raters + 1))

"""The shapes of Gao, Schulman and Hilton (2022, sec. 3.1): gold against d = sqrt(KL), relative to the initial policy.

Best-of-n: R(d) = d (a - b d), peak at d = a / 2b.  RL: R(d) = d (a - b log d), peak at d = exp(a / b - 1).
d is the square root of the KL in nats and log is natural. Both forms fit badly near the origin (their own remark).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from palate.core import DataError

Form = Literal["best_of_n", "rl"]
"""Which of the two forms."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Coefficients of one form, with the residual's root mean square in gold units and the number of points."""

    form: Form
    alpha: float
    beta: float
    rms: float
    n: int

    def gold(self, d: ArrayLike) -> NDArray[np.float64]:
        """Gold gained over the initial policy at each d (0 at d = 0)."""
        x = np.asarray(d, dtype=np.float64)
        return np.asarray(_columns(x, self.form) @ np.array([self.alpha, self.beta]), dtype=np.float64)

    @property
    def peak(self) -> tuple[float, float] | None:
        """(d, gold) where the gain is largest; None when the curve has no peak (beta or alpha not positive)."""
        if self.beta <= 0 or (self.form == "best_of_n" and self.alpha <= 0):
            return None
        if self.form == "best_of_n":
            return self.alpha / (2 * self.beta), self.alpha**2 / (4 * self.beta)
        exponent = self.alpha / self.beta - 1
        if exponent > 700:  # exp would overflow: no run reaches such a peak
            return None
        d = math.exp(exponent)
        return d, self.beta * d


def fit_gold(d: ArrayLike, gold: ArrayLike, form: Form) -> Fit:
    """The least-squares fit of a form to `gold` (n,), the gain over the initial policy, at `d` (n,) = sqrt(KL).

    Linear in both coefficients, so the fit is exact. Needs two or more points at different d > 0.
    """
    x, y = np.asarray(d, dtype=np.float64), np.asarray(gold, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataError(f"The fit needs two flat lists of finite numbers of one length; got shapes {x.shape} and {y.shape}.")
    if (x < 0).any():
        raise DataError("The fit needs d = sqrt(KL) >= 0; give square roots of KL, not log-ratios.")
    if np.unique(x[x > 0]).size < 2:
        raise DataError("The fit needs points at two or more different d > 0; evaluate more often during training.")
    columns = _columns(x, form)
    (alpha, beta), *_ = np.linalg.lstsq(columns, y, rcond=None)
    residual = y - columns @ np.array([alpha, beta])
    return Fit(form, float(alpha), float(beta), float(np.sqrt(np.mean(residual**2))), int(x.size))


def _columns(d: NDArray[np.float64], form: Form) -> NDArray[np.float64]:
    """The two columns that alpha and beta multiply; d log d is 0 at 0."""
    if form == "best_of_n":
        return np.stack([d, -(d**2)], axis=-1)
    safe = np.where(d > 0, d, 1.0)
    return np.stack([d, -d * np.log(safe)], axis=-1)

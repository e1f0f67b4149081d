"""The shapes of Gao, Schulman and Hilton (2022, sec. 3.1): a measure against d = sqrt(KL), and where it stops rising.

Best-of-n: R(d) = d (a - b d), peak at d = a / 2b.  RL: R(d) = d (a - b log d), peak at d = exp(a / b - 1).
d is the square root of the KL in nats and log is natural. Both forms fit badly near the origin (their own remark).
Gao's R is the gain over the initial policy. Where the initial policy's own value is measured, it is a third coefficient, because it has an
error like every other point. Where it is known, as the rate of 1/2 at which people prefer the start to itself, the curve starts there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from palate.core import DataError

Floats = NDArray[np.float64]
Form = Literal["best_of_n", "rl"]
"""Which of the two forms."""
Outcome = Literal["peak", "still_rising", "undecided"]
"""`peak`: the measure stops rising inside the measured range; `still_rising`: it does not; `undecided`: the interval has both."""

DRAWS = 4000
LEVEL = 0.95
NARROWEST = 1.5
"""The least width of a smooth curve's bell, in points."""
MISFIT = 0.001
"""A fit describes its points unless residuals as large as these have a smaller chance than this."""
FARTHEST = 10
"""A form says where a measure stops rising up to this many times the largest measured d. A peak beyond that counts as none: infinite."""


@dataclass(frozen=True, slots=True)
class Fit:
    """One form, fitted by least squares with each point weighted by the inverse of its variance.

    Attributes:
        form: which of the two forms.
        start: the initial policy's value, fitted or known.
        alpha: the first coefficient.
        beta: the second coefficient.
        errors: covariance (2, 2) of alpha and beta, already widened by `scale`.
        rms: root mean square of the residuals, in units of the measure.
        scale: chi-square of the residuals per degree of freedom; NaN where the points have no errors of their own.
        chance: chance of residuals this large if the form were true and the errors right; NaN as above.
        freedom: points less coefficients.
        n: number of points.
        reach: the largest d.
    """

    form: Form
    start: float
    alpha: float
    beta: float
    errors: tuple[tuple[float, float], tuple[float, float]]
    rms: float
    scale: float
    chance: float
    freedom: int
    n: int
    reach: float

    def gain(self, d: ArrayLike) -> Floats:
        """Gain over the initial policy at each d (0 at d = 0)."""
        return np.asarray(_columns(np.asarray(d, dtype=np.float64), self.form) @ np.array([self.alpha, self.beta]))

    def value(self, d: ArrayLike) -> Floats:
        """The measure itself at each d."""
        return self.start + self.gain(d)

    @property
    def describes(self) -> bool:
        """Whether the residuals are no larger than the points' errors explain; true where those are not known."""
        return not self.chance < MISFIT

    @property
    def peak(self) -> float:
        """The d where the fitted curve is highest: 0 where it falls from the start, infinite beyond `FARTHEST` times the reach."""
        return float(_highest(np.array([[self.alpha, self.beta]]), self.form, self.reach)[0])


@dataclass(frozen=True, slots=True)
class Peak:
    """Where a measure stops rising.

    Attributes:
        outcome: what the interval says about the measured range.
        d: the fitted curve's highest point in sqrt(KL); infinite where it does not stop rising.
        low: lower end of the 95 % interval.
        high: upper end, infinite where nothing bounds it.
        gain: the fitted gain over the initial policy there, or at the end of the measured range where that comes first.
        reach: the largest measured d.
        place: the number of the highest point of a smooth curve; None of a form, which knows no points.
    """

    outcome: Outcome
    d: float
    low: float
    high: float
    gain: float
    reach: float
    place: int | None = None

    @property
    def stop(self) -> float:
        """The d to stop at: the peak, or the end of the measured range where that comes first."""
        return min(self.d, self.reach)


def fit_form(d: ArrayLike, values: ArrayLike, covariance: ArrayLike | None, form: Form, start: float | None = None) -> Fit:
    """Fit a form to `values` (n,) at `d` (n,) = sqrt(KL).

    Linear in all coefficients, so the fit is exact. Where the residuals are larger than the points' errors explain, the coefficients'
    errors are widened by their ratio (Birge 1932), so that noise which no point knows of counts too: that of the KL, or of the policy.

    Args:
        d: square roots of the KL in nats.
        values: the measure at each d.
        covariance: of the values (n, n); diagonal where each point has prompts of its own. None takes the errors from the residuals.
        form: which form.
        start: the initial policy's value where it is known exactly; None fits it.

    Raises:
        DataError: there are fewer points at different d than coefficients and one more, or values that are not finite or do not differ.
    """
    x, y = np.asarray(d, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataError(f"The fit needs two flat lists of finite numbers of one length; got shapes {x.shape} and {y.shape}.")
    if (x < 0).any():
        raise DataError("The fit needs d = sqrt(KL) >= 0; give square roots of KL, not log-ratios.")
    design = _columns(x, form)
    if start is None:
        design = np.concatenate([np.ones((x.size, 1)), design], axis=1)
    check_points(x, y, design.shape[1])
    y = y - (start or 0.0)
    variances = np.eye(x.size) if covariance is None else np.asarray(covariance, dtype=np.float64)
    weights = 1 / np.diag(variances)
    solver = np.linalg.solve(design.T @ (weights[:, None] * design), design.T * weights)
    coefficients = solver @ y
    residuals = y - design @ coefficients
    freedom = x.size - design.shape[1]
    square = _residual_square(design, y, variances)
    errors = (solver @ variances @ solver.T)[-2:, -2:] * (square / freedom if covariance is None else max(1.0, square / freedom))
    is_known = covariance is not None
    return Fit(
        form,
        start=float(coefficients[0]) if start is None else start,
        alpha=float(coefficients[-2]),
        beta=float(coefficients[-1]),
        errors=((float(errors[0, 0]), float(errors[0, 1])), (float(errors[1, 0]), float(errors[1, 1]))),
        rms=float(np.sqrt(np.mean(residuals**2))),
        scale=square / freedom if is_known else math.nan,
        chance=chi_square_tail(square, freedom) if is_known else math.nan,
        freedom=freedom,
        n=int(x.size),
        reach=float(x.max()),
    )


def check_points(d: Floats, values: Floats, coefficients: int) -> None:
    """Raise DataError where no form with so many coefficients can be fitted to `values` (n,) at `d` (n,), and say why."""
    if d.size == 1:
        raise DataError("there is one point, so nothing rises or falls. Train for more iterations, or give more runs.")
    if np.ptp(d) < 1e-3 * max(1.0, float(d.max())):
        raise DataError(
            f"the KL is the same at all {d.size} points (sqrt(KL) = {d.max():.3g}). Let the policy move: lower kl.control.coef."
        )
    different = np.unique(d).size
    if different <= coefficients:
        raise DataError(
            f"there are points at {different} different KLs, and a fit of {coefficients} coefficients needs {coefficients + 1}. "
            "Train for more iterations, or give more runs."
        )
    if np.ptp(values) <= 1e-12 * max(1.0, float(np.abs(values).max())):
        raise DataError(f"the measure is {values[0]:.3g} at every point, so it has no peak. Check the function or model that measures it.")


def peak_of(fit: Fit, seed: int, draws: int = DRAWS) -> Peak:
    """Return where the fitted measure stops rising, with a 95 % interval.

    The interval is a parametric bootstrap. It draws alpha and beta `draws` times from the normal distribution of their errors, or from
    Student's where the residuals gave the errors, and takes the quantiles of the peaks. A curve that falls from the start has its peak at
    0, and one that does not stop rising has it at infinity. The same seed gives the same interval. Raises DataError where the points have
    neither errors nor residuals: the interval would have no width.
    """
    if math.isnan(fit.scale) and fit.rms <= 1e-9 * max(abs(fit.alpha), abs(fit.beta)) * fit.reach:
        raise DataError("the points have no errors, and lie exactly on the form, so nothing says how sure a peak is. Measure their errors.")
    rng = np.random.default_rng(seed)
    noise = rng.multivariate_normal([0.0, 0.0], np.asarray(fit.errors), size=draws, method="eigh")
    if not fit.scale <= 1:
        noise *= np.sqrt(fit.freedom / rng.chisquare(fit.freedom, draws))[:, None]
    peaks = _highest(noise + np.array([fit.alpha, fit.beta]), fit.form, fit.reach)
    tail = (1 - LEVEL) / 2
    low, high = (float(end) for end in np.quantile(peaks, [tail, 1 - tail], method="nearest"))
    outcome: Outcome = "peak" if high < fit.reach else "still_rising" if low >= fit.reach else "undecided"
    return Peak(outcome, fit.peak, low, high, float(fit.gain(min(fit.peak, fit.reach))), fit.reach)


def smooth_peak(d: ArrayLike, values: ArrayLike, covariance: ArrayLike | None, seed: int, start: float | None = None) -> Peak:
    """Return where a smooth curve through the points is highest, with a 95 % interval, for points that no form describes.

    The curve is a local quadratic over the points' places in their order, under a bell of a tenth of their number, and so is the KL. A form
    has to bend to points far beyond the peak, and this curve does not see them. A curve that is highest at its last point has its peak at
    infinity. The interval draws the values anew `DRAWS` times, with errors at least as large as the residuals.

    Args:
        d: square roots of the KL in nats (n,), in the order of the points.
        values: the measure at each point (n,).
        covariance: of the values (n, n); None takes the errors from the residuals.
        seed: seed of the interval.
        start: the initial policy's value where it is known exactly; None takes that of the first point.
    """
    x, y = np.asarray(d, dtype=np.float64), np.asarray(values, dtype=np.float64)
    variances = np.eye(x.size) if covariance is None else np.asarray(covariance, dtype=np.float64)
    smoother = local_quadratic(np.arange(x.size, dtype=np.float64), max(NARROWEST, x.size / 10), 1 / np.diag(variances))
    residuals = y - smoother @ y
    freedom = x.size - 2 * np.trace(smoother) + float((smoother**2).sum())
    scale = float((residuals**2 / np.diag(variances)).sum()) / max(freedom, 1.0)
    widened = variances * (scale if covariance is None else max(1.0, scale))
    noise = np.random.default_rng(seed).multivariate_normal(np.zeros(x.size), widened, size=DRAWS, method="eigh")
    places = np.sqrt(np.maximum(smoother @ x**2, 0.0)).clip(max=x.max())
    places[-1] = math.inf
    curve = smoother @ y
    tail = (1 - LEVEL) / 2
    drawn = places[np.argmax((noise + y) @ smoother.T, axis=1)]
    low, high = (float(end) for end in np.quantile(drawn, [tail, 1 - tail], method="nearest"))
    outcome: Outcome = "peak" if math.isfinite(high) else "still_rising" if math.isinf(low) else "undecided"
    best = int(np.argmax(curve))
    gain = float(curve[best] - (curve[0] if start is None else start))
    return Peak(outcome, float(places[best]), low, high, gain, float(x.max()), best)


def local_quadratic(at: Floats, width: float, weights: Floats, x: Floats | None = None) -> Floats:
    """Return the matrix (m, n) that gives, at each of `at` (m,), the local quadratic fit to values at `x` (n,), which are `at` by default.

    Each fit weights the points by `weights` (n,) and by a bell of this width around its own place.
    """
    points = at if x is None else x
    rows = []
    for place in at:
        apart = points - place
        bell = weights * np.exp(-0.5 * (apart / width) ** 2)
        design = np.stack([np.ones_like(apart), apart, apart**2], 1)
        rows.append((np.linalg.pinv(design.T @ (bell[:, None] * design)) @ (design.T * bell))[0])
    return np.array(rows)


def peak_sentence(name: str, peak: Peak) -> str:
    """Say where the measure called `name` stops rising, or that it has no peak inside the measured range and what bounds one."""
    if peak.outcome == "peak" and peak.d == 0:
        return f"{name} falls from the start: no point of the run is better than the initial policy."
    if peak.outcome == "peak":
        return f"{name} stops rising at sqrt(KL) = {peak.d:.2f} [{peak.low:.2f}, {peak.high:.2f}], {peak.d**2:.2f} nats."
    bound = ""
    if 0 < peak.low < math.inf:
        bound = f" A peak, if there is one, is beyond sqrt(KL) = {peak.low:.2f}."
    elif peak.low > 0 and peak.place is None:
        bound = f" A peak, if there is one, is beyond {FARTHEST} times that."
    if peak.outcome == "still_rising":
        return f"{name} has no peak inside the measured range: it still rises at sqrt(KL) = {peak.reach:.2f}.{bound}"
    fit = "does not stop rising" if math.isinf(peak.d) else f"stops rising at sqrt(KL) = {peak.d:.2f}" if peak.d else "falls from the start"
    return (
        f"{name} shows no peak inside the measured range (sqrt(KL) up to {peak.reach:.2f}) and does not exclude one: the fit {fit}.{bound}"
    )


def difference_of_peaks(first: Peak, second: Peak) -> tuple[float, float, float] | None:
    """Return first less second in sqrt(KL) with a 95 % interval; None where one of them has no peak.

    The interval joins the two intervals as if they were independent (Zou and Donner 2008, MOVER). Measures of the same completions move
    together, so it is too wide rather than too narrow.
    """
    if math.isinf(first.d) or math.isinf(second.d):
        return None
    value = first.d - second.d
    return (
        value,
        value - math.hypot(first.d - first.low, second.high - second.d),
        value + math.hypot(first.high - first.d, second.d - second.low),
    )


def chi_square_tail(square: float, freedom: int) -> float:
    """Return the chance of a chi-square above `square`, to about 0.003 (Wilson and Hilferty 1931)."""
    part = 2 / (9 * freedom)
    return 1 - NormalDist().cdf(((square / freedom) ** (1 / 3) - (1 - part)) / math.sqrt(part))


def _residual_square(design: Floats, values: Floats, covariance: Floats) -> float:
    """Return the chi-square of what no coefficients can explain: squared, in units of its own covariance, whose parts may be correlated."""
    unexplained = np.linalg.qr(design, mode="complete")[0][:, design.shape[1] :]
    left = unexplained.T @ values
    inverse = np.linalg.pinv(unexplained.T @ covariance @ unexplained, rcond=1e-9, hermitian=True)
    return float(left @ inverse @ left)


def _highest(coefficients: Floats, form: Form, reach: float) -> Floats:
    """Return the d (k,) of the highest point of each curve with these coefficients (k, 2).

    A curve with beta <= 0 bends upwards, so its highest point is an end of the measured range: 0, or beyond it. So is a curve so
    straight that it would stop rising beyond `FARTHEST` times that range.
    """
    alpha, beta = coefficients[:, 0], coefficients[:, 1]
    end = coefficients @ _columns(np.asarray(reach), form)
    bent = np.where(beta > 0, beta, 1.0)
    top = np.maximum(alpha / (2 * bent), 0) if form == "best_of_n" else np.exp(np.minimum(alpha / bent - 1, 700))
    return np.where(beta > 0, np.where(top > FARTHEST * reach, np.inf, top), np.where(end > 0, np.inf, 0.0))


def _columns(d: Floats, form: Form) -> Floats:
    """The two columns that alpha and beta multiply; d log d is 0 at 0."""
    if form == "best_of_n":
        return np.stack([d, -(d**2)], axis=-1)
    safe = np.where(d > 0, d, 1.0)
    return np.stack([d, -d * np.log(safe)], axis=-1)

"""Where proxy, held-out score and gold stop rising in finished runs: fits, peaks, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from palate.agreement.estimates import json_values
from palate.core import ConfigError, DataError, derive_seed
from palate.evaluation.measured_curves import Measure, MeasuredCurve, read_curves
from palate.evaluation.near_peak import fit_near_peak
from palate.evaluation.overoptimisation import Fit, Peak, difference_of_peaks, peak_of, peak_sentence, smooth_peak

UNTRAINED: tuple[Measure, ...] = ("gold", "people", "held_out")
"""Measures that no policy is trained on, the best one first."""


@dataclass(frozen=True)
class FittedCurve:
    """A curve with its fit and its peak, or the reason why there are none.

    The peak is that of the fit where the form describes the points, and else that of a smooth curve through them.
    """

    curve: MeasuredCurve
    fit: Fit | None
    peak: Peak | None
    reason: str = ""

    @staticmethod
    def of(curve: MeasuredCurve, seed: int) -> FittedCurve:
        """Fit the curve's form. What cannot be fitted is a reason, not an error: another measure of the run may have a fit."""
        own_seed = derive_seed(seed, "peak", curve.run, curve.measure)
        try:
            fit = fit_near_peak(curve.d, curve.values, curve.covariance, curve.form, curve.start)
            if fit.describes:
                return FittedCurve(curve, fit, peak_of(fit, own_seed))
        except DataError as error:
            return FittedCurve(curve, None, None, str(error))
        return FittedCurve(curve, fit, smooth_peak(curve.d, curve.values, curve.covariance, own_seed, curve.start))

    @property
    def errors(self) -> str:
        """Where the errors of the interval come from, in words."""
        if self.curve.covariance is None:
            return "errors from the residuals, because the points have none"
        if self.curve.prompts is not None:
            return f"errors between {self.curve.prompts} prompts that all points share"
        return "errors of each iteration's own prompts"

    @property
    def warning(self) -> str:
        """What is wrong with the fit, in a sentence; empty where its residuals are as large as the points' errors."""
        if self.fit is None or self.fit.describes:
            return ""
        size = f"residuals are {math.sqrt(self.fit.scale):.1f} times their errors"
        remedy = "The peak is that of a smooth curve through the points instead."
        return f"{self.name}: the form does not describe the points: {size}. {remedy}"

    @property
    def place(self) -> int:
        """The number of the point to stop at: the highest of a smooth curve, else that whose KL is nearest to the stop of the form."""
        assert self.peak is not None
        curve, stop = self.curve, self.peak.stop
        return int(np.argmin(np.abs(curve.d - stop))) if self.peak.place is None else self.peak.place

    @property
    def name(self) -> str:
        """The measure and the run."""
        return f"{self.curve.measure.replace('_', '-')} of {self.curve.run}"


@dataclass(frozen=True)
class StopAdvice:
    """When to stop a run, by the best measure that it was not trained on.

    Attributes:
        run: the run's name.
        measure: gold, or else people's verdicts, or else the held-out score.
        label: the point nearest to the stop: its iteration, n or model.
        axis: what the label is.
        sqrt_kl: the stop.
        kl_budget: the KL there in nats, for `kl.control: {kind: budget_kl}`.
        low: lower end of the budget's 95 % interval, nats.
        high: upper end, infinite where nothing bounds it.
        is_shown: whether the measure stops rising inside the measured range; otherwise the stop may be the end of that range.
    """

    run: str
    measure: Measure
    label: str
    axis: str
    sqrt_kl: float
    kl_budget: float
    low: float
    high: float
    is_shown: bool


@dataclass(frozen=True)
class PeakDistance:
    """How far the held-out score's peak is beyond that of gold, in sqrt(KL), with a 95 % interval."""

    run: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class PeakReport:
    """Everything that `palate peak` says."""

    curves: tuple[FittedCurve, ...]
    advice: tuple[StopAdvice, ...]
    distances: tuple[PeakDistance, ...]

    def plain(self) -> dict[str, Any]:
        """Return the report as JSON values; null is what is not known, or an end of an interval that nothing bounds."""
        rows = {"curves": [_plain_curve(one) for one in self.curves]}
        rest = {"advice": [asdict(one) for one in self.advice], "held_out_beyond_gold": [asdict(one) for one in self.distances]}
        plain: dict[str, Any] = json_values({**rows, **rest})
        return plain


def peak_report(directories: Sequence[Path], seed: int = 0) -> PeakReport:
    """Read the runs, fit every curve, and say when to stop.

    Args:
        directories: online, rerank and evaluate runs. Evaluate runs are the points of one curve.
        seed: seed of the intervals.

    Raises:
        ConfigError: a directory is not such a run, or two runs have one name.
        DataError: a run measured nothing.
    """
    curves = read_curves(directories)
    seen = [(curve.run, curve.measure) for curve in curves]
    twice = next((run for run, measure in seen if seen.count((run, measure)) > 1), None)
    if twice is not None:
        raise ConfigError(f"two of the runs are called {twice}. Give each run once, or runs of different names.")
    fitted = tuple(FittedCurve.of(curve, seed) for curve in curves)
    runs = list(dict.fromkeys(curve.run for curve in curves))
    by_run = {run: {one.curve.measure: one for one in fitted if one.curve.run == run and one.peak is not None} for run in runs}
    advice = [_advice(found[best]) for found in by_run.values() if (best := next((m for m in UNTRAINED if m in found), None)) is not None]
    distances = [
        PeakDistance(run, *gap)
        for run, found in by_run.items()
        if "gold" in found and "held_out" in found and (gap := _gap(found["held_out"], found["gold"])) is not None
    ]
    return PeakReport(fitted, tuple(advice), tuple(distances))


def verdict(one: FittedCurve) -> str:
    """Say in a sentence where the measure stops rising, or that it has no peak inside the measured range."""
    if one.peak is None:
        return f"{one.name}: no fit: {one.reason}"
    text, first = peak_sentence(one.name, one.peak), float(one.curve.d.min())
    if 0 < one.peak.d < first:
        return f"{text} That is below the smallest measured sqrt(KL), {first:.2f}, so it is outside of what was measured: measure there."
    return text


def _advice(one: FittedCurve) -> StopAdvice:
    assert one.peak is not None
    curve, stop = one.curve, one.peak.stop
    low, high = one.peak.low**2, one.peak.high**2
    return StopAdvice(curve.run, curve.measure, curve.labels[one.place], curve.axis, stop, stop**2, low, high, one.peak.outcome == "peak")


def _gap(held_out: FittedCurve, gold: FittedCurve) -> tuple[float, float, float] | None:
    return None if held_out.peak is None or gold.peak is None else difference_of_peaks(held_out.peak, gold.peak)


def _plain_curve(one: FittedCurve) -> dict[str, Any]:
    """Return a curve with its points, its fit and its peak."""
    curve, fit = one.curve, one.fit
    fitted = np.full(curve.values.size, math.nan) if fit is None else fit.value(curve.d)
    columns = zip(curve.labels, curve.kl.tolist(), curve.d.tolist(), curve.values.tolist(), curve.se.tolist(), fitted.tolist(), strict=True)
    return {
        "run": curve.run,
        "measure": curve.measure,
        "form": curve.form,
        "axis": curve.axis,
        "prompts": curve.prompts,
        "errors": one.errors,
        "points": [dict(zip((curve.axis, "kl", "sqrt_kl", "value", "se", "fitted"), row, strict=True)) for row in columns],
        "fit": None if fit is None else {**asdict(fit), "describes": fit.describes},
        "peak": None if one.peak is None else asdict(one.peak),
        "verdict": verdict(one),
        "warning": one.warning or None,
    }

"""Coverage of the intervals of `palate peak` on runs drawn from Gao's forms: `python -m benchmarks.peaks --draws 2000`.

A run has noise in its measure, and in its KL, which no fit knows of. `covered` is the share of intervals that hold the true peak, and
`wrongly shown` the share that show a peak inside the measured range where it is beyond it, or the other way round.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from palate.core import derive_seed
from palate.evaluation.near_peak import fit_near_peak
from palate.evaluation.overoptimisation import Form, peak_of

Floats = NDArray[np.float64]

START = 0.5
"""The initial policy's value."""


@dataclass(frozen=True)
class World:
    """What synthetic runs are drawn from.

    Attributes:
        form: which of Gao's forms.
        peak: the true peak in sqrt(KL).
        reach: sqrt(KL) at the end of a run.
        points: iterations, or values of n.
        error: standard error of the measure at each point; the gain at the peak is 0.2.
        kl_error: standard error of the KL in units of sqrt(KL), as a mean over completions has; best-of-n has none.
        prompts: how many prompts all points of best-of-n share.
        start: whether a point measures the initial policy, or none does and the fit knows its value, as with people inside the loop, or
            finds it.
    """

    form: Form
    peak: float
    reach: float = 3.0
    points: int = 20
    error: float = 0.018
    kl_error: float = 0.1
    prompts: int = 400
    start: Literal["measured", "known", "found"] = "measured"


@dataclass(frozen=True)
class Coverage:
    """Shares of the draws: intervals that cover the true peak, wrong outcomes, undecided ones; and the median error of the peak."""

    covered: float
    wrongly_shown: float
    undecided: float
    median_error: float


def coverage(world: World, draws: int, seed: int) -> Coverage:
    """Draw runs, fit each, and count."""
    found = []
    for draw in range(draws):
        d, values, covariance = _run(world, np.random.default_rng(derive_seed(seed, "peaks", draw)))
        fit = fit_near_peak(d, values, covariance, world.form, START if world.start == "known" else None)
        peak = peak_of(fit, seed=draw, draws=1000)
        wrong = peak.outcome == ("still_rising" if world.peak < world.reach else "peak")
        error = abs(math.log(peak.d / world.peak)) if 0 < peak.d < math.inf else math.inf
        found.append((peak.low <= world.peak <= peak.high, wrong, peak.outcome == "undecided", error))
    covered, wrong_share, undecided, errors = np.array(found, dtype=np.float64).T
    return Coverage(float(covered.mean()), float(wrong_share.mean()), float(undecided.mean()), float(np.median(errors)))


def _run(world: World, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Draw d, values and their covariance."""
    if world.form == "best_of_n":
        d = world.reach * np.sqrt(np.linspace(0, 1, 9))
        gain = 0.2 * (2 * d / world.peak - (d / world.peak) ** 2)
        spread = world.error * math.sqrt(world.prompts)
        walks = np.cumsum(rng.normal(size=(world.prompts, d.size)), axis=1) / math.sqrt(d.size)
        table = START + gain + spread * walks
        return d, table.mean(0), np.cov(table, rowvar=False) / world.prompts
    first = 0 if world.start == "measured" else 1
    d = world.reach * np.sqrt(np.linspace(0, 1, world.points + first))[first:]
    slope = 0.2 / world.peak
    gain = d * (slope * (1 + math.log(world.peak)) - slope * np.log(np.where(d > 0, d, 1)))
    values = START + gain + world.error * rng.normal(size=d.size)
    kl = d**2 + world.kl_error * d * rng.normal(size=d.size)
    return np.sqrt(np.maximum(kl, 0)), values, np.eye(d.size) * world.error**2


def main() -> int:
    """Print a table, a row per world; return exit status 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peaks", description=__doc__)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    worlds = [World("rl", peak, points=count, kl_error=noise) for peak, count, noise in product((1.5, 2.6, 6.0), (20, 60), (0.0, 0.1, 0.2))]
    worlds += [World("best_of_n", peak, reach=2.1) for peak in (0.8, 1.2, 3.0)]
    checks = product((1.5, 2.6), (0.05, 0.09), ("found", "known"))
    worlds += [World("rl", peak, points=11, error=error, start=start) for peak, error, start in checks]  # type: ignore[arg-type]
    print("| form | true peak | points, their error | KL error | covered | wrongly shown | undecided | median error of the peak |")
    print("|---" * 8 + "|")
    for world in worlds:
        one = coverage(world, options.draws, options.seed)
        count, noise = (9, 0.0) if world.form == "best_of_n" else (world.points, world.kl_error)
        shares = f"{one.covered:.3f} | {one.wrongly_shown:.3f} | {one.undecided:.3f} | {one.median_error:.1%}"
        form = world.form if world.start == "measured" else f"{world.form}, start {world.start}"
        print(f"| {form} | {world.peak:g} of {world.reach:g} | {count}, {world.error:g} | {noise:g} | {shares} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())

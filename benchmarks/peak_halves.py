"""How well a run's own measures say where gold peaks: `python -m benchmarks.peak_halves RUN ...`, for online runs with gold.

The even and the odd iterations of a run drew other prompts, so they are two independent measurements of the same policies. Each half says
where gold peaks, in several ways: as `palate peak` does, by a form fitted near its peak or to all points, by a smooth curve without a form,
and by the highest iteration. The table shows how often the two halves agree, which is all that a single half can promise. What a stop is
worth comes from the other half.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.kept_weights import NEAR
from palate.agreement.estimates import Floats
from palate.evaluation.measured_curves import MeasuredCurve, online_curves
from palate.evaluation.near_peak import fit_near_peak
from palate.evaluation.overoptimisation import fit_form, local_quadratic, peak_of, smooth_peak

WIDTH = 0.2
"""Width of the bell of the curve that measures a stop, as a share of the largest sqrt(KL)."""

Half = tuple[Floats, Floats, Floats]
"""sqrt(KL), values and their variances of some iterations."""


def fitted(half: Half) -> float:
    """Return the sqrt(KL) of the peak of the form, fitted near its peak."""
    d, values, variances = half
    return peak_of(fit_near_peak(d, values, np.diag(variances), "rl"), seed=0).stop


def fitted_to_all(half: Half) -> float:
    """Return the sqrt(KL) of the peak of the form, fitted to all points."""
    d, values, variances = half
    return peak_of(fit_form(d, values, np.diag(variances), "rl"), seed=0).stop


def recommended(half: Half) -> float:
    """Return the sqrt(KL) at which `palate peak` stops: by the form where it describes the points, else by a smooth curve."""
    d, values, variances = half
    return fitted(half) if fit_near_peak(d, values, np.diag(variances), "rl").describes else smooth(half)


def smooth(half: Half) -> float:
    """Return the sqrt(KL) at which a smooth curve over the iterations is highest."""
    d, values, variances = half
    return smooth_peak(d, values, np.diag(variances), seed=0).stop


def highest(half: Half) -> float:
    """Return the sqrt(KL) of the highest iteration."""
    return float(half[0][int(np.argmax(half[1]))])


WAYS: Mapping[str, Callable[[Half], float]] = {
    "`palate peak`": recommended,
    "form near its peak": fitted,
    "form, all points": fitted_to_all,
    "smooth curve": smooth,
    "highest iteration": highest,
}


def halves(curve: MeasuredCurve) -> tuple[Half, Half]:
    """Return the even and the odd iterations; both have the first one, at which the KL is 0."""
    number = np.arange(curve.d.size)
    even, odd = (
        (curve.d[chosen], curve.values[chosen], curve.se[chosen] ** 2) for chosen in (number % 2 == 0, (number % 2 == 1) | (number == 0))
    )
    return even, odd


def worth(stop: float, half: Half) -> float:
    """Return what a stop is worth by a smooth curve through the iterations of a half."""
    d, values, _ = half
    return float((local_quadratic(np.array([stop]), WIDTH * d.max(), np.ones_like(d), d) @ values)[0])


def table(curves: Sequence[MeasuredCurve]) -> str:
    """Return Markdown: a row per run with the peak's KL by each half and way, and a row that counts halves that agree."""
    lines = [f"| run | last KL | {' | '.join(WAYS)} |", "|---" * (2 + len(WAYS)) + "|"]
    near, gains = dict.fromkeys(WAYS, 0), {name: [] for name in WAYS}  # type: dict[str, int], dict[str, list[float]]
    for curve in curves:
        even, odd = halves(curve)
        cells = []
        for name, way in WAYS.items():
            first, second = way(even), way(odd)
            low, high = sorted((first**2, second**2))
            near[name] += low >= (1 - NEAR) * high
            gains[name].append((worth(first, odd) - worth(fitted(even), odd) + worth(second, even) - worth(fitted(odd), even)) / 2)
            cells.append(f"{first**2:.1f}, {second**2:.1f}")
        lines.append(f"| {curve.run} | {curve.kl[-1]:.1f} | {' | '.join(cells)} |")
    counts = (f"{near[name]} of {len(curves)}" for name in WAYS)
    lines.append(f"| halves within {NEAR:.0%} | | {' | '.join(counts)} |")
    means = (f"{np.mean(own):+.4f} +- {np.std(own, ddof=1) / math.sqrt(len(own)):.4f}" if len(own) > 1 else "" for own in gains.values())
    lines.append(f"| gold of the stop by the other half, less that of the form near its peak | | {' | '.join(means)} |")
    return "\n".join(lines)


def main() -> int:
    """Print the table; return exit status 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peak_halves", description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    options = parser.parse_args()
    curves = [curve for run in options.runs for curve in online_curves(f"{run.parent.name}/{run.name}", run) if curve.measure == "gold"]
    print(table(curves))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Rules that say where a run stops, on runs drawn from Gao's forms: `python -m benchmarks.stop_rules --draws 400`.

A run has a win rate over its start that rises to a peak and falls. A check measures it with an error. Each rule stops the run when its
highest check is `--patience` checks back, and keeps that check's weights. The table shows the win rate that is lost against the best check.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from palate.agreement.estimates import Estimate, Floats
from palate.agreement.judged_sample import gain_curve
from palate.core import derive_seed

ITERATIONS = 24
GAIN = 0.25
"""The gain at the peak."""

Rule = Callable[[Floats, Floats, float], tuple[int, bool]]
"""Returns from iterations, rates and their error the number of the best check, and whether the run may stop now."""


def win_rates(iterations: Floats, peak: float) -> Floats:
    """Return the true win rates: Gao's form of online training with d = sqrt(iteration)."""
    ratio = np.sqrt(iterations / peak)
    rates: Floats = 0.5 + GAIN * ratio * (1 - np.log(ratio))
    return rates


def highest(_: Floats, rates: Floats, __: float) -> tuple[int, bool]:
    """The check with the highest rate."""
    return int(np.argmax(rates)), True


def smoothed(_: Floats, rates: Floats, __: float) -> tuple[int, bool]:
    """The check with the highest mean of its neighbours, weighted by a bell of one check's width."""
    number = np.arange(rates.size)
    weights = np.exp(-0.5 * (number[:, None] - number) ** 2)
    return int(np.argmax(weights @ rates / weights.sum(1))), True


def fitted(iterations: Floats, rates: Floats, error: float) -> tuple[int, bool]:
    """The highest check of the curve that `online` fits."""
    estimates = [Estimate(float(rate), error, 0.0, 1.0, 32) for rate in rates]
    curve = gain_curve(iterations.astype(int).tolist(), estimates)
    return (len(rates) - 1, False) if curve is None else (curve.best, curve.has_fallen)


RULES: Mapping[str, Rule] = {"highest check": highest, "running mean": smoothed, "curve": fitted}


def stopped(rule: Rule, iterations: Floats, rates: Floats, error: float, patience: int) -> tuple[int, int]:
    """Return the number of the check whose weights are kept, and of the one at which the run stops."""
    for last in range(rates.size):
        best, may_stop = rule(iterations[: last + 1], rates[: last + 1], error)
        if may_stop and last - best >= patience:
            return best, last
    return rule(iterations, rates, error)[0], rates.size - 1


def table(peaks: Sequence[float], every: int, error: float, patience: int, draws: int, seed: int) -> str:
    """Return a Markdown table: a row per peak, a column per rule with the mean loss and the mean iteration at which the run stops."""
    lines = [f"| peak, at iteration | {' | '.join(RULES)} |", "|---" * (len(RULES) + 1) + "|"]
    iterations = np.arange(every, ITERATIONS + 1, every, dtype=np.float64)
    for peak in peaks:
        truth, cells = win_rates(iterations, peak), []
        for rule in RULES.values():
            found = []
            for draw in range(draws):
                rng = np.random.default_rng(derive_seed(seed, "stop", peak, draw))  # the same runs for all rules
                kept, last = stopped(rule, iterations, truth + error * rng.normal(size=truth.size), error, patience)
                found.append((truth.max() - truth[kept], iterations[last]))
            loss, at = np.array(found).T
            cells.append(f"{loss.mean():.3f} +- {loss.std() / draws**0.5:.3f}, stops at {at.mean():.0f}")
        lines.append(f"| {peak:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """Print a table; return exit status 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stop_rules", description=__doc__)
    parser.add_argument("--peaks", type=float, nargs="+", default=[6, 10, 18, 60])
    parser.add_argument("--every", type=int, default=2, help="iterations between two checks")
    parser.add_argument("--error", type=float, default=0.09, help="standard error of a check; that of 32 answers")
    parser.add_argument("--patience", type=int, default=2)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(table(options.peaks, options.every, options.error, options.patience, options.draws, options.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())

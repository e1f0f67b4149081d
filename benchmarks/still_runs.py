"""How often guards warn of simulated runs in which nothing changes: `python -m benchmarks.still_runs`.

The policy stays what it is. Prompts differ much, completions of one prompt are alike, lengths and scores are skewed, and a fifth of the
answers to questions differ from those at the start, in both directions. So every warning is a false alarm.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from palate.evaluation.intervals import clustered_mean, wilson
from palate.evaluation.tax_figures import TaxUnit, tax_metrics
from palate.training.guards import TABLE, Guards, Limit, Watch

SAMPLES = 4
EVERY = 2
"""Iterations between two measurements of the evals."""

QUESTIONS = tuple(TaxUnit(name, str(k)) for name in ("facts", "sums", "must_help", "opinions") for k in range(40))
RATED = frozenset(guard.name for guard in TABLE if guard.has_rate)

AT_ANY_CHANGE = replace(
    Guards(),
    length=Limit(warn=1.0),
    length_fall=Limit(warn=1.0),
    refusals=Limit(warn=0.0),
    tax=Limit(warn=0.0),
    gold=Limit(warn=0.0),
    held_out=Limit(warn=0.0),
)
"""Limits at no change, without patience, for the guards with a rate. Nothing but the rate holds their warnings back."""

SIZES = ((16, 24), (60, 24), (60, 8), (60, 4))
"""Iterations, and prompts per iteration."""


def still_run(seed: int, iterations: int, prompts: int) -> Iterator[dict[str, float]]:
    """Yield the metrics of a run in which the score rises and nothing else changes, as the loop logs them."""
    rng = np.random.default_rng(seed)
    start = (rng.random(len(QUESTIONS)) < 0.5).astype(float)
    for k in range(iterations):
        prompt, noise = rng.normal(size=(2, prompts, 1)), rng.normal(size=(3, prompts, SAMPLES))
        quality = 0.5 * noise[0] - np.exp(0.7 * prompt[0])
        differs = rng.random(len(QUESTIONS)) < 0.2
        yield {
            "online/score/mean": float(k),
            **_mean("length", "mean", np.exp(3.3 + 0.4 * prompt[1] + 0.35 * noise[1])),
            **_mean("refusals", "share", (quality < -2).astype(float)),
            **_mean("gold", "mean", quality),
            **_mean("held_out_score", "mean", quality + 0.3 * noise[2]),
            **(tax_metrics(QUESTIONS, start.tolist(), np.where(differs, 1 - start, start).tolist()) if k % EVERY == 0 else {}),
        }


def _mean(name: str, statistic: str, values: NDArray[np.float64]) -> dict[str, float]:
    found = clustered_mean(list(values))
    return {f"online/{name}/{statistic}": found.value, **({f"online/{name}/se": found.se} if math.isfinite(found.se) else {})}


def warned(guards: Guards, rows: Iterable[Mapping[str, float]]) -> set[str]:
    """Return the guards with a rate that warn of a run."""
    watch = Watch(guards)
    return {alarm.guard for step, row in enumerate(rows) for alarm in watch.look(step, row)} & RATED


def _cell(alarms: Sequence[set[str]]) -> str:
    low, high = wilson(count := sum(map(bool, alarms)), len(alarms))
    guards = ", ".join(f"{name} {n}" for name, n in sorted(Counter(name for own in alarms for name in own).items()))
    return f"{count} of {len(alarms)} [{low:.3f}, {high:.3f}]: {guards or 'none'}"


def main() -> int:
    """Print how many runs of each size get a warning; return exit status 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.still_runs", description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    runs = parser.parse_args().runs
    sys.stdout.write("| iterations | prompts each | limits at any change | default limits |\n|---|---|---|---|\n")
    for iterations, prompts in SIZES:
        simulated = [list(still_run(seed, iterations, prompts)) for seed in range(runs)]
        cells = [_cell([warned(guards, rows) for rows in simulated]) for guards in (AT_ANY_CHANGE, Guards())]
        sys.stdout.write(f"| {iterations} | {prompts} | {' | '.join(cells)} |\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Two states of Palate at the same work, alternating in one run: rows per second of the newer over those of the older, and peak memory.

`python -m benchmarks.speed.states --pairs PATH/TO/hh.jsonl --older CHECKOUT` where CHECKOUT is another working tree of the repository.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.speed.__main__ import COMPLETIONS, ONLINE, SPINNING, STAGES, ran, spread
from benchmarks.speed.workload import Work, prepare

HERE = Path(__file__).parents[2]
HEADER = (
    "stage",
    "model",
    "rows/s, older",
    "rows/s, newer",
    "newer over older",
    "rounds in which the newer was faster",
    "peak MB, newer against older",
)


def main() -> int:
    """Print a row per stage. Ratios are of one round: the median, and the extremes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.states", description=__doc__)
    parser.add_argument("--pairs", type=Path, required=True, help="HH pairs, JSONL")
    parser.add_argument("--older", type=Path, required=True, help="another working tree of this repository")
    parser.add_argument("--stages", nargs="+", choices=(*STAGES, *ONLINE), default=["sft", "reward", "dpo", "grpo", "ppo"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    print(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        rows, _ = prepare(options.pairs, Path(name))
        for stage in options.stages:
            batch = COMPLETIONS if stage in ONLINE else options.batch
            work = Work(stage, str(Path(name) / "S"), str(rows), "float32", options.steps, batch)
            found: dict[Path, list[dict[str, Any]]] = {options.older.resolve(): [], HERE: []}
            for number in range(options.rounds):
                # Who comes first changes with the round, so that a machine that slows down harms both alike.
                for checkout in list(found)[:: 1 if number % 2 else -1]:
                    found[checkout].append(measured(work, checkout))
            print(row(work, *found.values()), flush=True)
    return 0


def measured(work: Work, checkout: Path) -> dict[str, Any]:
    """Return what a process of the code in `checkout` reported."""
    kind = "online" if work.stage in ONLINE else "ours"
    return ran([sys.executable, "-m", f"benchmarks.speed.{kind}"], work, SPINNING, checkout)


def row(work: Work, older: list[dict[str, Any]], newer: list[dict[str, Any]]) -> str:
    """Return a row of the table."""
    rates = [f"{work.batch / median(one['median'] for one in side):.1f}" for side in (older, newer)]
    ratios = [old["median"] / new["median"] for old, new in zip(older, newer, strict=True)]
    faster = f"{sum(ratio > 1 for ratio in ratios)} of {len(ratios)}"
    memory = " against ".join(f"{median(one['peak_mb'] for one in side):.0f}" for side in (newer, older))
    return f"| {' | '.join([work.stage, f'S {work.dtype}', *rates, spread(ratios), faster, memory])} |"


if __name__ == "__main__":
    sys.exit(main())

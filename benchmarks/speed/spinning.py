"""How long idle threads spin, and what it costs: rows per second alone and beside one busy loop, by `GOMP_SPINCOUNT`.

`python -m benchmarks.speed.spinning --pairs PATH/TO/hh.jsonl`. The settings alternate within one run. "default" is that of GNU's OpenMP.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.speed.__main__ import COMPLETIONS, ONLINE, STAGES, busy_loops, ran
from benchmarks.speed.workload import Work, prepare
from palate.core.process import SPINS

COUNTS = ("default", SPINS)


def main() -> int:
    """Print a row per stage and setting."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.spinning", description=__doc__)
    parser.add_argument("--pairs", type=Path, required=True, help="HH pairs, JSONL")
    parser.add_argument("--stages", nargs="+", choices=(*STAGES, *ONLINE), default=["sft", "dpo"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    os.environ.pop("GOMP_SPINCOUNT", None)
    print("| stage | GOMP_SPINCOUNT | rows/s alone | beside one busy loop |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as name:
        rows, _ = prepare(options.pairs, Path(name))
        for stage in options.stages:
            batch = COMPLETIONS if stage in ONLINE else options.batch
            work = Work(stage, str(Path(name) / "S"), str(rows), "float32", options.steps, batch)
            seconds: dict[tuple[str, int], list[float]] = {(count, loops): [] for count in COUNTS for loops in (0, 1)}
            for _ in range(options.rounds):
                for (count, loops), medians in seconds.items():
                    with busy_loops(loops):
                        medians.append(measured(work, count))
            for count in COUNTS:
                rates = [", ".join(f"{work.batch / one:.1f}" for one in sorted(seconds[count, loops])) for loops in (0, 1)]
                print(f"| {stage} | {count} | {rates[0]} | {rates[1]} |", flush=True)
                ratio = median(seconds[count, 0]) / median(seconds[count, 1])
                print(f"  {stage}, {count}: beside the loop {ratio:.2f} of the speed alone", file=sys.stderr, flush=True)
    return 0


def measured(work: Work, count: str) -> float:
    """Return the median seconds of a step of our side."""
    environment = {} if count == "default" else {"GOMP_SPINCOUNT": count}
    kind = "online" if work.stage in ONLINE else "ours"
    return float(ran([sys.executable, "-m", f"benchmarks.speed.{kind}"], work, environment)["median"])


if __name__ == "__main__":
    sys.exit(main())

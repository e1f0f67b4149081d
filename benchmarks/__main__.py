"""Run the kitchen for several seeds and print the table of docs/benchmarks.md: `python -m benchmarks --seeds 43 44 45 46`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.kitchen import SeedRun, table


def main() -> int:
    """Run what is not done yet below `--runs`, one folder per seed; return exit status 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[43, 44, 45, 46])
    parser.add_argument("--runs", type=Path, default=Path("runs/bench"))
    parser.add_argument("--config", type=Path, default=Path("configs/kitchen.yaml"))
    options = parser.parse_args()
    runs = [SeedRun.of(seed, options.runs / f"seed{seed}", options.config) for seed in options.seeds]
    sys.stdout.write(table(runs))
    return 0


if __name__ == "__main__":
    sys.exit(main())

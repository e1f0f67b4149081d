"""Runs the kitchen for several seeds and prints the table of docs/benchmarks.md: `python -m benchmarks --seeds 20 21 22`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.kitchen import SeedRun, table


def main() -> int:
    """Exit status 0; runs whatever is not done yet below `--runs`, one folder a seed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[20, 21, 22])
    parser.add_argument("--runs", type=Path, default=Path("runs/bench"))
    parser.add_argument("--config", type=Path, default=Path("configs/kitchen.yaml"))
    options = parser.parse_args()
    found = []
    for seed in options.seeds:
        root = options.runs / f"seed{seed}"
        command = [sys.executable, "-m", "palate", "run", str(options.config), f"seed={seed}", "--runs", str(root)]
        done = subprocess.run(command, check=False)
        if done.returncode:
            return done.returncode
        found.append(SeedRun.read(seed, root))
    sys.stdout.write(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())

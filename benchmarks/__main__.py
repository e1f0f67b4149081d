"""Run the kitchen for several seeds and print the table of docs/benchmarks.md: `python -m benchmarks --seeds 43 44 45 46`."""

from __future__ import annotations

import sys

from benchmarks.kitchen import seed_runs, seeds_parser, table


def main() -> int:
    """Run what is not done yet below `--runs`, one folder per seed; return exit status 0."""
    options = seeds_parser("benchmarks", __doc__, [43, 44, 45, 46], "configs/kitchen.yaml").parse_args()
    runs = seed_runs(options)
    sys.stdout.write(table(runs))
    return 0


if __name__ == "__main__":
    sys.exit(main())

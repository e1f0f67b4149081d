"""Whether Palate names faults that were planted in the kitchen: `python -m benchmarks.monitors --world small`.

Each seed has a small world with a base, an SFT model and a sound reward model. Two runs of online training are clean. Others are paid for a
fault beside the truth, or take too large steps. Other faults are in the data: prompts of training among the held-out ones, held-out
judgments among those of training, judges who do not see harm, and a judge with a taste for a side. There is a report for each fault, and
one for each clean run. Everything that counts as a detection is read from what Palate wrote: the faults in the `summary.json` of the
reports, and what guards say about the `metrics.jsonl` of the runs.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from benchmarks.kitchen import seeds_parser
from benchmarks.monitor_outcomes import outcome, table
from benchmarks.monitor_pipeline import CLEAN, EXPECTED, planned
from benchmarks.monitor_worlds import WORLDS


def main() -> int:
    """Run what is not done yet below `--runs`, one folder per world and seed; return exit status 0."""
    parser = seeds_parser("benchmarks.monitors", __doc__, [])
    parser.add_argument("--world", nargs="+", choices=list(WORLDS), default=["test"], help="worlds; without --seeds, on their own seeds")
    options = parser.parse_args()
    found = []
    for world in options.world:
        for seed in options.seeds or WORLDS[world].seeds:
            stages = planned(options.runs / f"{world}{seed}", seed, WORLDS[world])
            found.append({name: outcome(stages, name) for name in (*CLEAN, *(WORLDS[world].faults or EXPECTED))})
            sys.stdout.write(f"{world} {seed}\n{json.dumps({name: asdict(one) for name, one in found[-1].items()})}\n")
    sys.stdout.write(f"{table(found)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

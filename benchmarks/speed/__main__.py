"""Palate and TRL at the same work, alternating in one run: ratios with their spread, peak memory, and the machine's limits beside them.

`python -m benchmarks.speed --pairs PATH/TO/hh.jsonl --peer PATH/TO/python` where that python has TRL 1.16, datasets and accelerate.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.speed.limits import needed_flops, rates
from benchmarks.speed.workload import Work, prepare

STAGES = ("sft", "reward", "dpo", "dpo-precomputed")
DTYPES = ("float32", "bfloat16")
HEADER = (
    "stage",
    "model",
    "rows/s",
    "TRL float32",
    "the same, malloc thresholds raised",
    "TRL bfloat16",
    "ratio to TRL float32",
    "share of the machine's limit",
    "peak MB, ratio",
)
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str((1 << 31) - 1), "MALLOC_TOP_PAD_": str(64 << 20)}
"""glibc's thresholds as Palate raises them for itself: the peer is measured with and without."""


def main() -> int:
    """Measures and prints tables of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--pairs", type=Path, required=True, help="HH pairs, JSONL")
    parser.add_argument("--peer", required=True, help="an interpreter that has TRL")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--models", nargs="+", choices=("S", "M"), default=["S"])
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows, counts = prepare(options.pairs, folder)
        machine = rates()
        limits = ", ".join(f"{dtype} {rate / 1e9:.0f}" for dtype, rate in machine.items())
        print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores; matmul GFLOP/s: {limits}\n")
        print(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}", flush=True)
        for model in options.models:
            for stage in options.stages:
                for dtype in options.dtypes:
                    work = Work(stage, str(folder / model), str(rows), dtype, options.steps, options.batch)
                    print(measured(work, options.rounds, options.peer, counts, machine[dtype]), flush=True)
    return 0


def measured(work: Work, rounds: int, peer: str, counts: dict[str, list[int]], rate: float) -> str:
    """One row of the table: sides alternate; a ratio is taken within a round, and the middle one shown with the extremes."""
    base = {**vars(work), "dtype": "float32"}
    sides = {
        "ours": ([sys.executable, "-m", "benchmarks.speed.ours"], work, {}),
        "float32": ([peer, str(Path(__file__).with_name("peer.py"))], Work(**base), {}),
        "malloc": ([peer, str(Path(__file__).with_name("peer.py"))], Work(**base), MALLOC),
        "bfloat16": ([peer, str(Path(__file__).with_name("peer.py"))], Work(**{**base, "dtype": "bfloat16"}), MALLOC),
    }
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, (command, told, more) in sides.items():
            found[name].append(ran(command, told, more))
    units = {name: median(one["median"] for one in ones) for name, ones in found.items()}
    fastest = min(("float32", "malloc", "bfloat16"), key=lambda name: units[name])
    default = [theirs["median"] / own["median"] for own, theirs in zip(found["ours"], found["float32"], strict=True)]
    best = [theirs["median"] / own["median"] for own, theirs in zip(found["ours"], found[fastest], strict=True)]
    share = needed_flops(work, counts) / rate / units["ours"]
    memory = [median(one["peak_mb"] for one in found[name]) for name in ("ours", "float32")]
    speeds = [f"{work.batch / seconds:.1f}" for seconds in units.values()]
    ratios = f"{spread(default)}; to its fastest ({fastest}) {spread(best)}"
    peak = f"{memory[0]:.0f}, {memory[0] / memory[1]:.2f}"
    cells = [work.stage, f"{Path(work.model).name} {work.dtype}", *speeds, ratios, f"{share:.0%}", peak]
    return "| " + " | ".join(cells) + " |"


def spread(ratios: list[float]) -> str:
    """The middle ratio, and the extremes."""
    return f"{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def ran(command: list[str], work: Work, more: dict[str, str]) -> dict[str, Any]:
    """What one process reported. Raises RuntimeError with its last lines when it failed."""
    done = subprocess.run([*command, work.words()], env={**os.environ, **more}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


if __name__ == "__main__":
    sys.exit(main())

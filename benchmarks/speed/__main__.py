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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.speed.limits import needed_flops, rates
from benchmarks.speed.workload import Work, prepare
from palate.core.process import SPINS

STAGES = ("sft", "reward", "dpo", "dpo-precomputed")
ONLINE = ("grpo", "rloo", "ppo")
COMPLETIONS = 32
"""The settings of an online iteration."""
DTYPES = ("float32", "bfloat16")
HEADER = (
    "stage",
    "model",
    "rows/s",
    "TRL float32",
    "TRL float32, malloc thresholds raised",
    "TRL bfloat16, malloc thresholds raised",
    "ratio to the first",
    "to the second",
    "to the third",
    "share of the machine's limit",
    "peak MB",
)
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str((1 << 31) - 1), "MALLOC_TOP_PAD_": str(64 << 20)}
"""glibc's thresholds as Palate raises them for itself: the peer is measured with and without."""

SPINNING = {"GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", SPINS)}
"""What the command line of Palate sets for itself."""


def main() -> int:
    """Measure, and print the tables of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--pairs", type=Path, required=True, help="HH pairs, JSONL")
    parser.add_argument("--peer", required=True, help="an interpreter that has TRL")
    parser.add_argument("--stages", nargs="+", choices=(*STAGES, *ONLINE), default=list(STAGES))
    parser.add_argument("--models", nargs="+", choices=("S", "M"), default=["S"])
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--peer-ppo", type=Path, help="a folder with TRL 1.10, which has PPO (1.13 has none); for that stage")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--busy", type=int, default=0, help="busy loops beside both sides: how fast is it on a machine that others use?")
    options = parser.parse_args()
    if options.peer_ppo is not None:
        os.environ["TRL_PPO"] = str(options.peer_ppo)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows, counts = prepare(options.pairs, folder)
        machine = rates()
        limits = ", ".join(f"{dtype} {rate / 1e9:.0f}" for dtype, rate in machine.items())
        print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores; matmul GFLOP/s: {limits}; busy loops: {options.busy}\n")
        print(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}", flush=True)
        for model in options.models:
            for stage in options.stages:
                batch = COMPLETIONS if stage in ONLINE else options.batch
                work = Work(stage, str(folder / model), str(rows), "float32", options.steps, batch)
                with busy_loops(options.busy):
                    rows_of_table = measured(work, options.rounds, options.peer, counts, machine)
                print(*rows_of_table, sep="\n", flush=True)
    return 0


def measured(work: Work, rounds: int, peer: str, counts: dict[str, list[int]], machine: dict[str, float]) -> list[str]:
    """Return a row of the table for each of our dtypes. Sides alternate; ratios are of one round, as median and extremes."""
    works = {dtype: Work(**{**vars(work), "dtype": dtype}) for dtype in DTYPES}
    kind = "online" if work.stage in ONLINE else "ours"
    script = "peer_online.py" if work.stage in ONLINE else "peer.py"
    ours, theirs = [sys.executable, "-m", f"benchmarks.speed.{kind}"], [peer, str(Path(__file__).with_name(script))]
    sides: dict[str, tuple[list[str], Work, dict[str, str]]] = {
        "float32": (ours, works["float32"], SPINNING),
        "bfloat16": (ours, works["bfloat16"], SPINNING),
        "TRL float32": (theirs, works["float32"], {}),
        "TRL float32, malloc": (theirs, works["float32"], MALLOC),
        "TRL bfloat16, malloc": (theirs, works["bfloat16"], MALLOC),
    }
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            found[name].append(ran(*side))
    rate = {name: f"{work.batch / median(one['median'] for one in ones):.1f}" for name, ones in found.items()}
    peak = {name: median(one["peak_mb"] for one in ones) for name, ones in found.items()}
    peers = [name for name in sides if name.startswith("TRL")]
    rows = []
    for dtype in DTYPES:
        needed = None if work.stage in ONLINE else needed_flops(work, counts)
        share = "-" if needed is None else f"{needed / machine[dtype] / median(one['median'] for one in found[dtype]):.0%}"
        ratios = [spread([other["median"] / own["median"] for own, other in zip(found[dtype], found[name], strict=True)]) for name in peers]
        memory = f"{peak[dtype]:.0f} against {peak['TRL float32']:.0f}: {peak[dtype] / peak['TRL float32']:.2f}"
        cells = [
            work.stage,
            f"{Path(work.model).name} {dtype}",
            rate[dtype],
            *(rate[name] for name in peers),
            *ratios,
            share,
            memory,
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """Keep `count` processes in an endless loop meanwhile, one core each where there are as many."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def spread(ratios: list[float]) -> str:
    """Return the median ratio and the extremes."""
    return f"{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def ran(command: list[str], work: Work, more: dict[str, str], folder: Path | None = None) -> dict[str, Any]:
    """Return what one process, started in `folder`, reported. A failed process raises RuntimeError with its last lines."""
    done = subprocess.run([*command, work.words()], env={**os.environ, **more}, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


if __name__ == "__main__":
    sys.exit(main())

"""SFT beside each way of TRL's to lay out a batch: padded, without padding, packed. `python -m benchmarks.speed.layouts --help`.

Packed batches hold more tokens than padded ones, so that rates are real tokens a second, the median over steps.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks.speed.__main__ import DTYPES, MALLOC, ran, spread
from benchmarks.speed.workload import LAYOUTS, WARMUP, Work, prepare


def main() -> int:
    """Print a table: a row per layout and dtype of TRL, with the ratio of Palate's rate to TRL's in the same round."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.layouts", description=__doc__)
    parser.add_argument("--pairs", type=Path, required=True, help="HH pairs, JSONL")
    parser.add_argument("--peer", required=True, help="an interpreter that has TRL")
    parser.add_argument("--model", choices=("S", "M"), default="S")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows, counts = prepare(options.pairs, folder)
        work = Work("sft", str(folder / options.model), str(rows), "float32", options.steps, 8)
        each = [prompt + chosen for prompt, chosen in zip(counts["prompt"], counts["chosen"], strict=True)]
        tokens = [sum(each[8 * k : 8 * k + 8]) for k in range(WARMUP, WARMUP + options.steps)]
        ours: dict[str, list[float]] = {dtype: [] for dtype in DTYPES}
        theirs: dict[tuple[str, str, str], list[float]] = {}
        theirs_script = [options.peer, str(Path(__file__).with_name("peer.py"))]
        for _ in range(options.rounds):
            for dtype in DTYPES:
                told = replace(work, dtype=dtype)
                seconds = ran([sys.executable, "-m", "benchmarks.speed.ours"], told, {})["seconds"]
                ours[dtype].append(median(count / took for count, took in zip(tokens, seconds, strict=True)))
                for layout in LAYOUTS:
                    for malloc, more in (("as it comes", {}), ("thresholds raised", MALLOC)):
                        found = ran(theirs_script, replace(told, layout=layout), more)["tokens_per_s"]
                        theirs.setdefault((dtype, layout, malloc), []).append(found)
    for dtype in DTYPES:
        print(f"Palate, {dtype}: {median(ours[dtype]):.0f} tokens/s\n")
    print("| TRL | dtype | malloc | tokens/s | Palate in the same dtype is faster by |\n|---|---|---|---|---|")
    for (dtype, layout, malloc), rates in theirs.items():
        ratios = [own / other for own, other in zip(ours[dtype], rates, strict=True)]
        print(f"| {layout} | {dtype} | {malloc} | {median(rates):.0f} | {spread(ratios)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())

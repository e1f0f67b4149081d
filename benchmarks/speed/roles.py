"""Memory of PPO's four roles under LoRA, beside fine-tuning under LoRA: `python -m benchmarks.speed.roles --pairs PATH/TO/hh.jsonl`.

Policy, reference, reward model and value model against the policy alone: the peak of a process of its own each. The reward model is an
adapter of the policy's base. Both hold the same number of tokens in a forward pass.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.speed.__main__ import COMPLETIONS, DTYPES, ran
from benchmarks.speed.workload import Work, prepare


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.roles", description=__doc__)
    parser.add_argument("--pairs", type=Path, required=True, help="HH pairs, JSONL")
    parser.add_argument("--models", nargs="+", choices=("S", "M"), default=["S"])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=1024, help="tokens a forward pass holds at most")
    options = parser.parse_args()
    print("| model | SFT with LoRA, MB | PPO with LoRA, MB | ratio | with a shared trunk, MB | ratio |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows, _ = prepare(options.pairs, folder)
        for model in options.models:
            for dtype in DTYPES:
                peaks = []
                for module, stage, batch in (("ours", "sft", 8), ("online", "ppo", COMPLETIONS), ("online", "ppo-shared", COMPLETIONS)):
                    work = Work(stage, str(folder / model), str(rows), dtype, options.steps, batch, adapters=True, tokens=options.tokens)
                    peaks.append(ran([sys.executable, "-m", f"benchmarks.speed.{module}"], work, {})["peak_mb"])
                sft, separate, shared = peaks
                cells = f"{sft:.0f} | {separate:.0f} | {separate / sft:.2f} | {shared:.0f} | {shared / sft:.2f}"
                print(f"| {model} {dtype} | {cells} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

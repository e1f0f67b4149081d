"""Compare online methods at one distance from SFT, in the kitchen: `python -m benchmarks.methods --seeds 20 21 22`.

World, reward model and DPO are those of configs/kitchen.yaml, so runs of `python -m benchmarks` below the same `--runs` are used again.
Each method stops when its policy has moved by `--nats` per completion, and keeps the weights from before. There is one row per method and
seed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from benchmarks.kitchen import SeedRun, seed_root, write_pipeline

KITCHEN = Path(__file__).resolve().parents[1] / "configs" / "kitchen.yaml"
SHARED = ("world", "base", "sft", "samples", "judged", "reward", "check", "direct", "eval-sft", "eval-direct")
METHODS: Mapping[str, Mapping[str, Any]] = {
    "ppo": {},
    "rloo": {"method": {"advantage": "leave_one_out", "objective": "reinforce", "reduction": "sequence_sum"}, "epochs_per_batch": 1},
    "grpo": {"method": {"advantage": "group_relative", "reduction": "sequence_mean"}},
    "online-dpo": {"method": {"kind": "online_dpo", "objective": {"beta": 0.05}}},
}
PRICES: Mapping[str, float] = {"ppo": 0.05, "rloo": 0.05, "grpo": 0.05}
"""The coefficient of KL in the reward until the budget is spent. Online DPO has beta instead."""


def main() -> int:
    """Run what is not done yet below `--runs`, one folder per seed; return exit status 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.methods", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[20, 21, 22])
    parser.add_argument("--nats", type=float, default=3.0)
    parser.add_argument("--iterations", type=int, default=60, help="iterations at most")
    parser.add_argument("--runs", type=Path, default=Path("runs/bench"))
    options = parser.parse_args()
    print(
        "| seed | method | iterations | KL, nats per completion | gold | over SFT | over DPO |\n|---|---|---|---|---|---|---|", flush=True
    )
    for seed in options.seeds:
        root = seed_root(options, seed)
        file = write_pipeline(root / "methods.yaml", pipeline(options.nats, options.iterations))
        done = subprocess.run([sys.executable, "-m", "palate", "run", str(file), f"seed={seed}", "--runs", str(root)], check=False)
        if done.returncode:
            return done.returncode
        run = SeedRun.read(seed, root)
        for name in ("direct", *METHODS):
            print(row(run, name), flush=True)
    return 0


def pipeline(nats: float, iterations: int) -> dict[str, Any]:
    """Return the kitchen's stages up to DPO, and each method with its evaluation."""
    kitchen: dict[str, Any] = yaml.safe_load(KITCHEN.read_text(encoding="utf-8"))
    stages = {name: kitchen["stages"][name] for name in SHARED}
    for name, changed in METHODS.items():
        control = {"kind": "budget_kl", "nats": nats, "price": {"coef": PRICES.get(name, 0.05)}}
        slower = {**kitchen["stages"]["ppo"]["optimizer"], "lr": 2e-4}
        common = {"iterations": iterations, "kl": {"control": control}, "optimizer": slower, "pretraining": None}
        stages[name] = {**kitchen["stages"]["ppo"], **common, **changed}
        stages[f"eval-{name}"] = {**kitchen["stages"]["eval-ppo"], "model": f"${name}"}
    return {"name": "methods", "seed": 0, "stages": stages}


def row(run: SeedRun, name: str) -> str:
    """Return a method's row."""
    iterations = run.summary(name).get("iterations", "-")
    kl = run.summary(f"eval-{name}")["means"]["kl"]["mean"]
    sft, direct = run.gain(name), run.gain(name, over="direct")
    beyond = "-" if name == "direct" else f"{direct.value:+.3f} ({abs(direct.z):.0f} SE)"
    cells = [run.seed, name, iterations, f"{kl:.2f}", f"{run.column(name).mean():.3f}", f"{sft.value:+.3f} ({abs(sft.z):.0f} SE)", beyond]
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    sys.exit(main())

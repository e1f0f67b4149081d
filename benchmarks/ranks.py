"""One rank against two, gloo between them: how far apart weights and metrics are after 20 steps, and what each takes.

`python -m benchmarks.ranks --pairs PATH/TO/hh.jsonl`
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import torch
from safetensors.torch import load_file

from benchmarks.speed.workload import prepare
from palate.runs.record import RunRecord, list_runs

PIPELINE = """\
name: ranks
seed: 11
inputs: {model: null, pairs: null}
stages:
  sft: {stage: sft, model: $model, data: $pairs, limit: 320, demonstrations_per_step: 16}
  reward: {stage: reward, model: $model, preferences: $pairs, limit: 200, held_out_share: 0.2, prompts_per_step: 8, epochs: 1}
  direct: {stage: direct, model: $model, preferences: $pairs, limit: 160, prompts_per_step: 8}
  ppo: &online
    stage: online
    model: $model
    reward: $reward
    prompts: $pairs
    limit: 40
    iterations: 5
    prompts_per_iteration: 8
    samples_per_prompt: 4
    minibatches: 4
    epochs_per_batch: 1
    sampling: {max_tokens: 64}
    reward_requirements: {min_accuracy: 0, min_spread: 0}
  grpo: {<<: *online, preset: dr-grpo}
"""
STAGES = ("sft", "reward", "direct", "ppo", "grpo")
HEADER = (
    "stage",
    "steps",
    "weights apart, of their norm",
    "metrics apart, at most",
    "seconds: 1 rank, 2 threads",
    "2 ranks",
    "2 ranks over 1",
)
Runs = dict[str, tuple[Path, RunRecord]]


def main() -> int:
    """Print a row per stage: the median of the rounds, in which the two alternate."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ranks", description=__doc__)
    parser.add_argument("--pairs", type=Path, required=True, help="HH pairs, JSONL")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows, _ = prepare(options.pairs, folder)
        (folder / "ranks.yaml").write_text(PIPELINE)
        words = [str(folder / "ranks.yaml"), f"model={folder / 'S'}", f"pairs={rows}"]
        rounds = [
            (ran(words, folder / f"one-{k}", 2), ran(words, folder / f"two-{k}", 1, "--launch", "torchrun:2"))
            for k in range(options.rounds)
        ]
        print(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}")
        for stage in STAGES:
            print(row(stage, rounds), flush=True)
        tokens = sum(len(ids) for ids in learned_tokens(folder, rows))
        for label, which in (("1 rank of 2 threads", 0), ("2 ranks of 1 thread", 1)):
            seconds = median(pair[which]["sft"][1].seconds for pair in rounds)
            print(f"SFT, {label}: {tokens / seconds / 2:.0f} tokens per second and core, loading included")
    return 0


def ran(words: list[str], runs: Path, threads: int, *how: str) -> Runs:
    """Return the runs of the pipeline, on so many threads a process."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "palate", "run", *words, "--runs", str(runs), *how]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return {record.name: (path, record) for path, record in list_runs(runs)}


def row(stage: str, rounds: list[tuple[Runs, Runs]]) -> str:
    """Return the row of a stage."""
    one, two = rounds[0][0][stage][0], rounds[0][1][stage][0]
    seconds = [(a[stage][1].seconds, b[stage][1].seconds) for a, b in rounds]
    ratios = [b / a for a, b in seconds]
    metrics = logged(one), logged(two)
    cells = (
        stage,
        str(len(metrics[0])),
        f"{weights_apart(one, two):.1e}",
        f"{metrics_apart(*metrics):.1e}",
        f"{median(a for a, _ in seconds):.1f}",
        f"{median(b for _, b in seconds):.1f}",
        f"{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})",
    )
    return f"| {' | '.join(cells)} |"


def weights_apart(one: Path, two: Path) -> float:
    """Return the norm of the difference of all weights over their norm."""
    a, b = (load_file(path / "model" / "model.safetensors") for path in (one, two))
    apart = sum(float((a[name].double() - b[name].double()).square().sum()) for name in a)
    return math.sqrt(apart / sum(float(x.double().square().sum()) for x in a.values()))


def metrics_apart(one: list[dict[str, float]], two: list[dict[str, float]]) -> float:
    """Return the largest difference of a metric at one step, relative to the larger of the metric and 1e-3."""
    return max(abs(a[name] - b[name]) / max(abs(a[name]), 1e-3) for a, b in zip(one, two, strict=True) for name in a)


def logged(run: Path) -> list[dict[str, float]]:
    """Return the metrics of each step."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def learned_tokens(folder: Path, rows: Path) -> list[list[int]]:
    """Return the token ids of the demonstrations that SFT reads."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "S")
    read = [json.loads(line) for line in rows.read_text().splitlines()][:320]
    return [tokenizer(f"{row['prompt']}{row['chosen']}")["input_ids"] for row in read]


if __name__ == "__main__":
    torch.set_num_threads(1)
    raise SystemExit(main())

"""Best of many by one reward model and by ensembles, in the kitchen: `python -m benchmarks.ensembles --seeds 130 131 132`.

World, language model and samples are those of configs/kitchen.yaml. A few noisy judgments train one model on all of them, an
ensemble with bootstrapped prompts, and heads on one trunk. The weights of the ensemble are averaged too. Each of them chooses among the
same `--pool` completions per held-out prompt. There is a row per rule with the gold of the best of n.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from benchmarks.kitchen import SeedRun
from palate.config.functions import load_gold
from palate.data.formats import read_samples
from palate.evaluation.best_of_n import best_of_n_curve
from palate.evaluation.intervals import paired_difference
from palate.rewards.combination import RewardModels
from palate.rewards.ensemble import ENSEMBLES

KITCHEN = Path(__file__).resolve().parents[1] / "configs" / "kitchen.yaml"
SIZES = (1, 4, 16, 64)
RULES = {"mean": "mean", "worst case": "wco", "mean - variance / 2": "uwo", "mean - sd": "mean_minus_sd", "soft minimum": "soft_min"}


def pipeline(pairs: int, members: int, prompts: int, pool: int) -> dict[str, Any]:
    """Return the kitchen's stages up to noisy judgments, the reward models, and the completions to choose among."""
    stages: dict[str, Any] = yaml.safe_load(KITCHEN.read_text(encoding="utf-8"))["stages"]
    kept = {name: stages[name] for name in ("world", "base", "sft", "samples")}
    people = {"raters": 12, "reliability": 0.8, "sharpness": 6, "side_bias": 0.0, "length_bias": 0.0, "phrase_bias": 0.0}
    judged = {**stages["judged"], "from": {**stages["judged"]["from"], "pool": people}, "raters_per_comparison": 1, "pairs_per_prompt": 2}
    reward = {**stages["reward"], "limit": pairs}
    ensemble = {"count": members, "bootstrap": "prompts", "heads": "same"}
    return {
        "name": "ensembles",
        "seed": 0,
        "stages": {
            **kept,
            "judged": judged,
            "single": reward,
            "ensemble": {**reward, "members": ensemble},
            "heads": {**reward, "members": {**ensemble, "trunk": "shared", "heads": "own"}},
            "averaged": {
                "stage": "average", "models": ["$ensemble"], "reference_samples": "$samples", "held_out": "$judged/held_out.jsonl",
            },
            "pool": {
                "stage": "sample", "model": "$sft", "prompts": "$world/held_out.jsonl", "limit": prompts, "samples_per_prompt": pool,
                "sampling": {"max_tokens": 80},
            },
        },
    }  # fmt: skip


@dataclass(frozen=True)
class Pool:
    """The completions of a seed: gold (prompts, n) and the scores (prompts, n) of each way to choose."""

    gold: np.ndarray
    scores: Mapping[str, np.ndarray]


def pool_of(run: SeedRun) -> Pool:
    """Score the pool with every model, the heads added up; a completion that was cut off is never the best."""
    gold_of = load_gold("palate.kitchen:judge")
    rows = read_samples(run.stages["pool"] / "samples.jsonl").rows
    prompts, groups = [prompt for prompt, _ in rows], [group for _, group in rows]
    gold = np.array([
        [np.mean(list(gold_of(prompt.text, one.text, **prompt.fields).values())) for one in group]
        for prompt, group in zip(prompts, groups, strict=True)
    ])  # fmt: skip
    ended = np.array([[one.stop == "eos" for one in group] for group in groups])
    scores: dict[str, np.ndarray] = {}
    for name in ("single", "ensemble", "heads", "averaged"):
        models = RewardModels.load((str(run.stages[name]),))
        members = torch.cat([models.score(prompts[k : k + 8], groups[k : k + 8]).members for k in range(0, len(prompts), 8)], 1)
        rules = RULES if name == "ensemble" else {f"heads, {rule}": RULES[rule] for rule in ("mean", "worst case")}
        if len(members) == 1:
            rules = {"one model" if name == "single" else "averaged weights": "mean"}
        for title, kind in rules.items():
            total = ENSEMBLES[kind](members).sum(1).reshape(ended.shape).double().numpy()
            scores[title] = np.where(ended, total, total[ended].min() - 1)
        if name == "ensemble":
            alone = members.sum(2).reshape(len(members), *ended.shape).double().numpy()
            scores |= {f"member {k + 1}": np.where(ended, one, one[ended].min() - 1) for k, one in enumerate(alone)}
    return Pool(gold, scores)


def table(seeds: Sequence[int], pools: Sequence[Pool]) -> str:
    """Return a Markdown table: a row per way to choose, with the median over seeds of the gold of the best of n, and its last step."""
    sizes = [n for n in SIZES if n <= pools[0].gold.shape[1]]
    last, before = sizes[-1], sizes[-2]
    lines = [f"| | {' | '.join(f'best of {n}' for n in sizes)} | {before} to {last}, by seed {', '.join(map(str, seeds))} |"]
    lines.append("|---" * (len(sizes) + 2) + "|")
    for title in pools[0].scores:
        curves = [best_of_n_curve(list(pool.scores[title]), list(pool.gold), sizes) for pool in pools]
        medians = [statistics.median(curve[n].value for curve in curves) for n in sizes]
        steps = []
        for pool in pools:
            one = [
                [best_of_n_curve([proxy], [gold], [n])[n].value for proxy, gold in zip(pool.scores[title], pool.gold, strict=True)]
                for n in (last, before)
            ]
            step = paired_difference(np.array(one[0]), np.array(one[1]))
            steps.append(f"{step.value:+.3f} ({abs(step.z):.0f} SE)")
        lines.append(f"| {title} | {' | '.join(f'{value:.3f}' for value in medians)} | {', '.join(steps)} |")
    return "\n".join(lines)


def main() -> int:
    """Run what is not done yet below `--runs`, one folder per seed; return exit status 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ensembles", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[130, 131, 132])
    parser.add_argument("--runs", type=Path, default=Path("runs/bench-ensembles"))
    parser.add_argument("--pairs", type=int, default=3000, help="judgments that train")
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--prompts", type=int, default=200, help="held-out prompts")
    parser.add_argument("--pool", type=int, default=64, help="completions per prompt")
    options = parser.parse_args()
    pools = []
    for seed in options.seeds:
        root = options.runs / f"seed{seed}"
        root.mkdir(parents=True, exist_ok=True)
        file = root / "ensembles.yaml"
        stages = pipeline(options.pairs, options.members, options.prompts, options.pool)
        file.write_text(yaml.safe_dump(stages, sort_keys=False), encoding="utf-8")
        pools.append(pool_of(SeedRun.of(seed, root, file)))
    print(table(options.seeds, pools))
    return 0


if __name__ == "__main__":
    sys.exit(main())

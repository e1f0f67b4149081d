"""Best of many by one reward model and by ensembles, in the kitchen: `python -m benchmarks.ensembles --seeds 130 131 132`.

A few noisy judgments of a short kitchen's samples train one model on all of them, and an ensemble with bootstrapped prompts. Each chooses
among the same `--pool` completions per held-out prompt. Half of these are sampled as the judged ones were. The others are sampled at
`--temperature`, so they are unlike what any model has seen judged, as those of a policy are that has moved away. There is a row per rule
with the gold of the best of n.
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
from benchmarks.short_kitchen import TEXTS, first_stages, short_kitchen
from palate.config.functions import load_gold
from palate.core import Completion, Prompt
from palate.data.formats import read_samples
from palate.evaluation.best_of_n import best_of_n_curve, best_of_n_value
from palate.evaluation.intervals import Estimate, paired_difference
from palate.rewards.combination import RewardModels
from palate.rewards.ensemble import ENSEMBLES

SIZES = (1, 4, 16, 64)
RULES = {"mean": "mean", "worst case": "wco", "mean - variance / 2": "uwo", "mean - sd": "mean_minus_sd", "soft minimum": "soft_min"}
WAYS = ("heads", "averaged")
"""Further models that can be measured beside: heads for all members on one trunk, and the average of the members' weights, who
then start with the same heads."""


def pipeline(options: argparse.Namespace) -> dict[str, Any]:
    """Return the kitchen's stages up to noisy judgments, the reward models, and the completions to choose among."""
    stages = short_kitchen()
    people = {"raters": 12, "reliability": 0.8, "sharpness": 6, "side_bias": 0.0, "length_bias": 0.0, "phrase_bias": 0.0}
    asked = {"from": {**stages["judged"]["from"], "pool": people}, "raters_per_comparison": 1, "pairs_per_prompt": 2, "held_out": 0.1}
    noisy = {**stages["judged"], **asked}
    judged = {"preferences": "$noisy/preferences.jsonl", "held_out": "$noisy/held_out.jsonl"}
    reward = {**stages["reward"], **judged, "limit": options.pairs}
    ensemble = {"count": options.members, "bootstrap": "prompts", "heads": "same" if "averaged" in options.also else "own"}
    sample = {"stage": "sample", "model": "$sft", "prompts": "$world/held_out.jsonl", "limit": options.prompts}
    drawn = {**sample, "samples_per_prompt": options.pool // 2}
    further = {
        "heads": {**reward, "members": {**ensemble, "trunk": "shared", "heads": "own"}},
        "averaged": {
            "stage": "average", "models": ["$ensemble"], "reference_samples": "$samples", "held_out": "$noisy/held_out.jsonl",
        },
    }  # fmt: skip
    return {
        "name": "ensembles",
        "seed": 0,
        "stages": {
            **first_stages(texts=options.texts),
            "noisy": noisy,
            "single": reward,
            "ensemble": {**reward, "members": ensemble},
            **{name: further[name] for name in options.also},
            "pool": {**drawn, "sampling": {"max_tokens": 80}},
            "pool-hot": {**drawn, "sampling": {"max_tokens": 80, "temperature": options.temperature}},
        },
    }


@dataclass(frozen=True)
class Pool:
    """The completions of a seed: gold (prompts, n) and the scores (prompts, n) of each way to choose."""

    gold: np.ndarray
    scores: Mapping[str, np.ndarray]

    def best(self, title: str, n: int) -> np.ndarray:
        """Return the expected gold (prompts,) of the best of n by a way to choose."""
        return np.array([best_of_n_value(proxy, gold, n) for proxy, gold in zip(self.scores[title], self.gold, strict=True)])


def pool_of(run: SeedRun, further: Sequence[str] = ()) -> Pool:
    """Score the pool with every model, the heads added up; a completion that was cut off is never the best."""
    gold_of = load_gold("palate.kitchen:judge")
    halves = [read_samples(run.stages[name] / "samples.jsonl").rows for name in ("pool", "pool-hot")]
    rows: list[tuple[Prompt, tuple[Completion, ...]]] = [(prompt, (*one, *hot)) for (prompt, one), (_, hot) in zip(*halves, strict=True)]
    prompts, groups = [prompt for prompt, _ in rows], [group for _, group in rows]
    gold = np.array([
        [np.mean(list(gold_of(prompt.text, one.text, **prompt.fields).values())) for one in group]
        for prompt, group in zip(prompts, groups, strict=True)
    ])  # fmt: skip
    ended = np.array([[one.stop == "eos" for one in group] for group in groups])
    scores: dict[str, np.ndarray] = {}
    for name in ("single", "ensemble", *further):
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
    """Return a Markdown table: a row per way to choose, with the median over seeds of the gold of the best of n.

    Two columns are paired by prompt, by seed: the last step of n, and the gold at the largest n less that of one model.
    """
    sizes = [n for n in SIZES if n <= pools[0].gold.shape[1]]
    last, before = sizes[-1], sizes[-2]
    named = ", ".join(map(str, seeds))
    heads = [*(f"best of {n}" for n in sizes), f"{before} to {last}, seeds {named}", f"best of {last} less one model's, seeds {named}"]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for title in pools[0].scores:
        curves = [best_of_n_curve(list(pool.scores[title]), list(pool.gold), sizes) for pool in pools]
        medians = [statistics.median(curve[n].value for curve in curves) for n in sizes]
        steps = [_cell(paired_difference(pool.best(title, last), pool.best(title, before))) for pool in pools]
        gains = [_cell(paired_difference(pool.best(title, last), pool.best("one model", last))) for pool in pools]
        shown = "" if title == "one model" else ", ".join(gains)
        lines.append(f"| {title} | {' | '.join(f'{value:.3f}' for value in medians)} | {', '.join(steps)} | {shown} |")
    return "\n".join(lines)


def _cell(difference: Estimate) -> str:
    return f"{difference.value:+.3f} ({abs(difference.z):.1f} SE)"


def main() -> int:
    """Run what is not done yet below `--runs`, one folder per seed; return exit status 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ensembles", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[130, 131, 132])
    parser.add_argument("--runs", type=Path, default=Path("runs/bench-ensembles"))
    parser.add_argument("--texts", type=int, default=TEXTS, help="documents of the base corpus")
    parser.add_argument("--pairs", type=int, default=300, help="judgments that train")
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=60, help="held-out prompts")
    parser.add_argument("--pool", type=int, default=64, help="completions per prompt")
    parser.add_argument("--temperature", type=float, default=2.0, help="of the second half of the completions")
    parser.add_argument("--also", nargs="+", choices=WAYS, default=[], help="further models to measure")
    options = parser.parse_args()
    pools = []
    for seed in options.seeds:
        root = options.runs / f"seed{seed}"
        root.mkdir(parents=True, exist_ok=True)
        file = root / "ensembles.yaml"
        file.write_text(yaml.safe_dump(pipeline(options), sort_keys=False), encoding="utf-8")
        pools.append(pool_of(SeedRun.of(seed, root, file), options.also))
    print(table(options.seeds, pools))
    return 0


if __name__ == "__main__":
    sys.exit(main())

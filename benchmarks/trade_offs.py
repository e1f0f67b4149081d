"""Helpful against harmless in the kitchen, chosen afterwards or trained for: `python -m benchmarks.trade_offs --seeds 130 131 132`.

A short kitchen's sound reward model has both heads; `benchmarks.reward_faults` trains the same one. For each weight there are three ways:
the best of `--n` samples of SFT by stored scores (`palate front`), PPO on the two heads with these weights, and the average of the
policies that were trained on one head each (a rewarded soup). Scores are standardised over the samples of SFT. The tables have proxy and
gold of both dimensions, and the weighted sum of training and of soups less that of the front, paired by prompt.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.kitchen import SeedRun, seed_root, seeds_parser, write_pipeline
from benchmarks.short_kitchen import short_kitchen, sound_kitchen
from palate.config.functions import load_gold
from palate.data.formats import read_samples
from palate.evaluation.front import Choice, ScoreTable, choose
from palate.evaluation.intervals import paired_difference
from palate.rewards.combination import RewardModels

PAIR = ("helpful", "harmless")
WEIGHTS = (0.25, 0.5, 0.75)
"""Weights of the first dimension; the second has the rest."""
ONLINE = {"prompts_per_iteration": 32, "optimizer": {"lr": 8.0e-4, "warmup": 0.1, "decay": "constant"}}
"""What training does in less time than the demo's."""


def stage_of(way: str, weight: float) -> str:
    """Return the name of the stage with a policy for a weight of the first dimension; soups at the ends are the trained policies."""
    return f"{'ppo' if way == 'trained' or weight not in WEIGHTS else 'soup'}-{100 * weight:.0f}"


def pipeline(options: argparse.Namespace) -> dict[str, Any]:
    """Return the kitchen's stages up to the reward model, the trained policies, their averages, and the samples of all of them."""
    kept = sound_kitchen()
    online = {name: value for name, value in short_kitchen()["ppo"].items() if name != "reward"} | ONLINE
    online |= {"iterations": options.iterations, "kl": {"control": {"coef": options.coefficient}}}
    policies: dict[str, Any] = {}
    for weight in (0.0, *WEIGHTS, 1.0):
        parts = {
            name: {"kind": "model", "model": "$reward", "heads": [name], "weight": share, "normalise": True}
            for name, share in zip(PAIR, (weight, 1 - weight), strict=True)
            if share
        }
        policies[stage_of("trained", weight)] = {**online, "rewards": parts}
    for weight in WEIGHTS:
        ends = [f"${stage_of('trained', end)}" for end in (1.0, 0.0)]
        policies[stage_of("soup", weight)] = {"stage": "average", "models": ends, "weights": [weight, 1 - weight]}
    sample = {"stage": "sample", "prompts": "$world/held_out.jsonl", "limit": options.prompts, "sampling": kept["samples"]["sampling"]}
    drawn = {f"of-{name}": {**sample, "model": f"${name}", "samples_per_prompt": 2} for name in policies}
    many = {"of-sft": {**sample, "model": "$sft", "samples_per_prompt": options.n}}
    return {"name": "trade-offs", "seed": 0, "stages": {**kept, **policies, **many, **drawn}}


@dataclass(frozen=True)
class Points:
    """What each way gives per prompt (prompts, 4): standardised proxy and then gold of both dimensions, by way and weight."""

    of: Mapping[tuple[str, float], np.ndarray]

    def sums(self, way: str, weight: float, *, gold: bool) -> np.ndarray:
        """Return the weighted sum of proxy or gold of each prompt."""
        columns = self.of[way, weight][:, 2:] if gold else self.of[way, weight][:, :2]
        return np.asarray(columns @ np.array([weight, 1 - weight]))


def points_of(run: SeedRun) -> Points:
    """Score all samples with the reward model, and with gold."""
    models = RewardModels.load((str(run.stages["reward"]),))
    gold_of = load_gold("palate.kitchen:judge")
    columns = [list(models.heads).index(name) for name in PAIR]

    def scored(stage: str) -> list[np.ndarray]:
        rows = read_samples(run.stages[stage] / "samples.jsonl").rows
        prompts, groups = [prompt for prompt, _ in rows], [group for _, group in rows]
        scores = np.concatenate([models.score(prompts[k : k + 16], groups[k : k + 16]).scores for k in range(0, len(rows), 16)])
        gold = [gold_of(prompt.text, one.text, **prompt.fields) for prompt, group in rows for one in group]
        both = np.hstack([scores[:, columns], np.array([[each[name] for name in PAIR] for each in gold])])
        return np.split(both, np.cumsum([len(group) for group in groups])[:-1])

    many = scored("of-sft")
    scores = ScoreTable(PAIR, tuple(group[:, :2] for group in many))
    centre, scale = np.concatenate(scores.groups).mean(0), scores.deviation

    def standard(rows: np.ndarray) -> np.ndarray:
        return np.hstack([(rows[:, :2] - centre) / scale, rows[:, 2:]])

    ways = {("SFT", 0.5): standard(np.array([group.mean(0) for group in many]))}
    for weight in (0.0, *WEIGHTS, 1.0):
        chosen = choose(scores, Choice({PAIR[0]: weight, PAIR[1]: 1 - weight}))
        ways["front", weight] = standard(np.array([group[k] for group, k in zip(many, chosen.numbers, strict=True)]))
        for way in ("trained", "soup"):
            ways[way, weight] = standard(np.array([group.mean(0) for group in scored(f"of-{stage_of(way, weight)}")]))
    return Points(ways)


def table(seeds: Sequence[int], points: Sequence[Points]) -> str:
    """Return two Markdown tables: the points, medians over seeds, and the differences from the front by seed."""
    names = [f"{kind} {name}" for kind in ("proxy", "gold") for name in PAIR]
    lines = [f"| way, weight of {PAIR[0]} | {' | '.join(names)} |", "|---" * 5 + "|"]
    for key in points[0].of:
        cells = [
            f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"
            for values in zip(*(one.of[key].mean(0) for one in points), strict=True)
        ]
        lines.append(f"| {key[0]}, {key[1]:g} | {' | '.join(cells)} |")
    heads = [f"{kind}, seed {seed}" for kind in ("proxy", "gold") for seed in seeds]
    lines += ["", f"| weighted sum less the front's | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for way in ("trained", "soup"):
        for weight in WEIGHTS:
            cells = []
            for gold in (False, True):
                for one in points:
                    gap = paired_difference(one.sums(way, weight, gold=gold), one.sums("front", weight, gold=gold))
                    cells.append(f"{gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})")
            lines.append(f"| {way}, {weight:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """Run what is not done yet below `--runs`, one folder per seed; return exit status 0."""
    parser = seeds_parser("benchmarks.trade_offs", __doc__, [130, 131, 132])
    parser.add_argument("--n", type=int, default=16, help="samples per prompt to choose among")
    parser.add_argument("--prompts", type=int, default=200, help="held-out prompts")
    parser.add_argument("--iterations", type=int, default=20, help="of training")
    parser.add_argument("--coefficient", type=float, default=0.1, help="of the KL penalty in training")
    options = parser.parse_args()
    points = []
    for seed in options.seeds:
        root = seed_root(options, seed)
        file = write_pipeline(root / "trade_offs.yaml", pipeline(options))
        points.append(points_of(SeedRun.of(seed, root, file)))
    print(table(options.seeds, points))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Best of many by one reward model and by ensembles, in the kitchen: `python -m benchmarks.ensembles --seeds 140 141 142 --also bases`.

A few noisy judgments of a short kitchen's samples train one model, and an ensemble whose members learn from the same judgments with other
seeds. Each chooses among the same `--pool` completions per held-out prompt. Most of these are sampled as the judged ones were. `--strange`
of them are sampled at `--temperature`, so they are unlike what any model has seen judged, as those of a policy are that has moved away.
There is a row per rule with the gold of the best of n. A second table says how far the errors of an ensemble's members are correlated.

A member is a model like the one alone, so the first row is the mean over all of them: what a single model gives on average. The one alone
is one draw of it, and its luck would decide the comparison.

With `--also drawn` the members of a further ensemble learn from prompts that are drawn with replacement. With `--also bases` those of
another one do so too, and start from `--bases` models that were pretrained and fine-tuned with other seeds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.kitchen import SeedRun, seed_root, seeds_parser, write_pipeline
from benchmarks.short_kitchen import TEXTS, first_stages, short_kitchen
from palate.config.functions import load_gold
from palate.core import Completion, Prompt, derive_seed
from palate.data.formats import read_samples
from palate.evaluation.best_of_n import best_of_n_value
from palate.evaluation.intervals import paired_difference
from palate.rewards.combination import RewardModels
from palate.rewards.ensemble import ENSEMBLES

SIZES = (1, 4, 16, 64)
RULES = {"mean": "mean", "worst case": "wco", "mean - variance / 2": "uwo", "mean - sd": "mean_minus_sd", "soft minimum": "soft_min"}
WAYS = ("bases", "drawn", "heads", "averaged")
"""Further models that can be measured beside: members that start from different models and draw their prompts, members that draw their
prompts, heads for all members on one trunk, and the average of the members' weights, who then start with the same heads."""
SINGLE = "a single model, on average"
KINDS = ("as judged", "strange")
"""The completions that are sampled as the judged ones were, and those at `--temperature`."""


def other_starts(seed: int, stages: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Return the stages of `count` further models: pretrained and fine-tuned as in `stages`, with seeds of their own."""
    made: dict[str, Any] = {}
    for number in range(2, count + 2):
        made[f"base-{number}"] = {**stages["base"], "seed": derive_seed(seed, "base", number)}
        made[f"sft-{number}"] = {**stages["sft"], "model": f"$base-{number}", "seed": derive_seed(seed, "sft", number)}
    return made


def pipeline(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Return the kitchen's stages up to noisy judgments, the reward models, and the completions to choose among."""
    stages = short_kitchen()
    people = {"raters": 12, "reliability": 0.8, "sharpness": 6, "side_bias": 0.0, "length_bias": 0.0, "phrase_bias": 0.0}
    asked = {"from": {**stages["judged"]["from"], "pool": people}, "raters_per_comparison": 1, "pairs_per_prompt": 2, "held_out": 0.1}
    noisy = {**stages["judged"], **asked}
    judged = {"preferences": "$noisy/preferences.jsonl", "held_out": "$noisy/held_out.jsonl"}
    reward = {**stages["reward"], **judged, "limit": options.pairs}
    ensemble = {"count": options.members, "bootstrap": "none", "heads": "same" if "averaged" in options.also else "own"}
    sample = {"stage": "sample", "model": "$sft", "prompts": "$world/held_out.jsonl", "limit": options.prompts}
    usual = {**sample, "samples_per_prompt": options.pool - options.strange, "sampling": {"max_tokens": 80}}
    sampling = {"max_tokens": 80, "temperature": options.temperature}
    strange = {**sample, "samples_per_prompt": options.strange, "sampling": sampling}
    starts = other_starts(seed, first_stages(texts=options.texts), options.bases - 1 if "bases" in options.also else 0)
    models = [f"${name}" for name in starts if name.startswith("sft")]
    further = {
        "bases": {**reward, "members": {**ensemble, "heads": "own", "bootstrap": "prompts", "other_models": models}},
        "drawn": {**reward, "members": {**ensemble, "bootstrap": "prompts"}},
        "heads": {**reward, "members": {**ensemble, "bootstrap": "prompts", "trunk": "shared", "heads": "own"}},
        "averaged": {
            "stage": "average", "models": ["$ensemble"], "reference_samples": "$samples", "held_out": "$noisy/held_out.jsonl",
        },
    }  # fmt: skip
    return {
        "name": "ensembles",
        "seed": 0,
        "stages": {
            **first_stages(texts=options.texts),
            **starts,
            "noisy": noisy,
            "single": reward,
            "ensemble": {**reward, "members": ensemble},
            **{name: further[name] for name in options.also},
            "pool": usual,
            "pool-hot": strange,
        },
    }


@dataclass(frozen=True)
class Pool:
    """The completions of a seed, and how they are scored.

    Attributes:
        gold: gold (prompts, n).
        usual: how many of the n, the first ones, are sampled as the judged ones were. The others are strange.
        scores: scores (prompts, n) of each way to choose.
        members: scores (m, prompts, n) of the members of each ensemble of models, the heads added up.
    """

    gold: np.ndarray
    usual: int
    scores: Mapping[str, np.ndarray]
    members: Mapping[str, np.ndarray]

    def best(self, title: str, n: int) -> np.ndarray:
        """Return the expected gold (prompts,) of the best of n by a way to choose, or by a single model on average."""
        proxies = [self.scores[one] for one in self._titles(title)]
        every = [[best_of_n_value(row, gold, n) for row, gold in zip(proxy, self.gold, strict=True)] for proxy in proxies]
        return np.asarray(np.mean(every, axis=0))

    def strange(self, title: str) -> float:
        """Return the share of the prompts for which the best of all is a strange completion."""
        return float(np.mean([self.scores[one].argmax(1) >= self.usual for one in self._titles(title)]))

    def _titles(self, title: str) -> list[str]:
        """Return the titles over which a row is the mean: for a single model the one that was trained alone, and the ensemble's members."""
        return [one for one in self.scores if one == "one model" or one.startswith("member ")] if title == SINGLE else [title]


def pool_of(run: SeedRun, further: Sequence[str] = ()) -> Pool:
    """Score the pool with every model, the heads added up; a completion that was cut off is never the best."""
    gold_of = load_gold("palate.kitchen:judge")
    parts = [read_samples(run.stages[name] / "samples.jsonl").rows for name in ("pool", "pool-hot")]
    rows: list[tuple[Prompt, tuple[Completion, ...]]] = [(prompt, (*one, *hot)) for (prompt, one), (_, hot) in zip(*parts, strict=True)]
    prompts, groups = [prompt for prompt, _ in rows], [group for _, group in rows]
    gold = np.array([
        [np.mean(list(gold_of(prompt.text, one.text, **prompt.fields).values())) for one in group]
        for prompt, group in zip(prompts, groups, strict=True)
    ])  # fmt: skip
    ended = np.array([[one.stop == "eos" for one in group] for group in groups])
    scores, each = dict[str, np.ndarray](), dict[str, np.ndarray]()
    for name in ("single", "ensemble", *further):
        models = RewardModels.load((str(run.stages[name]),))
        members = torch.cat([models.score(prompts[k : k + 8], groups[k : k + 8]).members for k in range(0, len(prompts), 8)], 1)
        rules = RULES if name == "ensemble" else {f"{name}, {rule}": RULES[rule] for rule in ("mean", "worst case")}
        if len(members) == 1:
            rules = {"one model" if name == "single" else "averaged weights": "mean"}
        for title, kind in rules.items():
            total = ENSEMBLES[kind](members).sum(1).reshape(ended.shape).double().numpy()
            scores[title] = np.where(ended, total, total[ended].min() - 1)
        if len(members) > 1:
            each[name] = members.sum(2).reshape(len(members), *ended.shape).double().numpy()
        if name in ("ensemble", "bases"):
            title = "member" if name == "ensemble" else "bases, member"
            scores |= {f"{title} {k + 1}": np.where(ended, one, one[ended].min() - 1) for k, one in enumerate(each[name])}
    return Pool(gold, len(parts[0][0][1]), scores, each)


def error_correlation(members: np.ndarray, gold: np.ndarray) -> float:
    """Return the mean correlation of the errors of two members.

    An error is what is left of a member's score after its least-squares line on the gold: it is what the gold does not explain.

    Args:
        members: scores (m, prompts, n).
        gold: gold (prompts, n) of the same completions.
    """
    design = np.stack([np.ones(gold.size), gold.ravel()], 1)
    flat = members.reshape(len(members), -1).T
    errors = flat - design @ np.linalg.lstsq(design, flat, rcond=None)[0]
    table = np.corrcoef(errors.T)
    return float(table[np.triu_indices(len(members), 1)].mean())


def table(seeds: Sequence[int], pools: Sequence[Pool]) -> str:
    """Return a Markdown table: a row per way to choose, with the median over seeds of the gold of the best of n.

    Two columns are paired by prompt, by seed and over all prompts: the last step of n, and the gold at the largest n less one model's.
    The last column is the share of the prompts, by seed, for which the best of all is a strange completion.
    """
    sizes = [n for n in SIZES if n <= pools[0].gold.shape[1]]
    last, before = sizes[-1], sizes[-2]
    named = f"seeds {', '.join(map(str, seeds))}" + (", and all" if len(seeds) > 1 else "")
    heads = [*(f"best of {n}" for n in sizes), f"{before} to {last}, {named}", f"best of {last} less a single model's, {named}", "strange"]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for title in (SINGLE, *pools[0].scores):
        medians = [f"{statistics.median(float(pool.best(title, n).mean()) for pool in pools):.3f}" for n in sizes]
        steps = _cells([(pool.best(title, last), pool.best(title, before)) for pool in pools])
        gains = _cells([(pool.best(title, last), pool.best(SINGLE, last)) for pool in pools]) if title != SINGLE else ""
        strange = ", ".join(f"{pool.strange(title):.0%}" for pool in pools)
        lines.append(f"| {title} | {' | '.join(medians)} | {steps} | {gains} | {strange} |")
    return "\n".join(lines)


def _cells(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> str:
    """Return paired differences with their intervals: of each seed, and where there are several, of the prompts of all seeds."""
    every = [tuple(np.concatenate(side) for side in zip(*pairs, strict=True))] if len(pairs) > 1 else []
    found = [paired_difference(*pair) for pair in (*pairs, *every)]
    return ", ".join(f"{one.value:+.3f} ({one.low:+.3f} to {one.high:+.3f})" for one in found)


def agreement_table(seeds: Sequence[int], pools: Sequence[Pool]) -> str:
    """Return a Markdown table: how far the errors of each ensemble's members are correlated, by kind of completion and by seed."""
    lines = [f"| correlation of members' errors, seeds {', '.join(map(str, seeds))} | {' | '.join(KINDS)} |", "|---" * 3 + "|"]
    for name in pools[0].members:
        parts = []
        for k in range(len(KINDS)):
            cut = slice(pools[0].usual) if k == 0 else slice(pools[0].usual, None)
            parts.append(", ".join(f"{error_correlation(pool.members[name][:, :, cut], pool.gold[:, cut]):.2f}" for pool in pools))
        lines.append(f"| {name} | {' | '.join(parts)} |")
    return "\n".join(lines)


def main() -> int:
    """Run what is not done yet below `--runs`, one folder per seed; return exit status 0."""
    parser = seeds_parser("benchmarks.ensembles", __doc__, [140, 141, 142])
    parser.add_argument("--texts", type=int, default=TEXTS, help="documents of the base corpus")
    parser.add_argument("--pairs", type=int, default=800, help="judgments that train")
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--bases", type=int, default=4, help="models from which the members of `--also bases` start in turn")
    parser.add_argument("--prompts", type=int, default=200, help="held-out prompts")
    parser.add_argument("--pool", type=int, default=64, help="completions per prompt")
    parser.add_argument("--temperature", type=float, default=2.0, help="of the strange completions")
    parser.add_argument("--strange", type=int, default=8, help="how many of the pool are sampled at this temperature")
    parser.add_argument("--also", nargs="+", choices=WAYS, default=[], help="further models to measure")
    options = parser.parse_args()
    pools = []
    for seed in options.seeds:
        root = seed_root(options, seed)
        file = write_pipeline(root / "ensembles.yaml", pipeline(options, seed))
        pools.append(pool_of(SeedRun.of(seed, root, file), options.also))
    print(table(options.seeds, pools))
    print()
    print(agreement_table(options.seeds, pools))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""How many labels an order of the queue saves in the kitchen: `python -m benchmarks.queue_orders --seeds 160 161 162`.

It runs the first stages of configs/rlaif.yaml, shortened: SFT, its samples, and simulated people who answer each question once.
A pair's answers count only once the pair is asked about. All ways to choose begin with the same pairs, drawn at random. Then each asks in
batches, and stage `reward` is trained anew on all that was asked so far. Its accuracy is that on other prompts, against the truth.

The ways are: at random; by the disagreement of heads drawn from the last model; the same kept apart, as the queue `uncertain` does; and by
what `palate coverage` says of the samples' prompts. All but the first leave 30 % to chance, as the rating server does.

A line of accuracy over the logarithm of labels is fitted to each way. The labels that a way needs are those at which its line reaches what
random's line reaches with all. Intervals resample fits, each with answers and first pairs of its own, and prompts.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from benchmarks.kitchen import LazyPipeline, seed_root, write_pipeline
from benchmarks.repeated_fits import Fits
from benchmarks.rlaif import CONFIG, FIT_SEEDS
from palate.agreement.estimates import Estimate, from_draws
from palate.agreement.selection import LEAST_RANDOM, diverse_order, ensemble_disagreement
from palate.core import Preference, derive_seed
from palate.data.formats import read_preferences
from palate.data.jsonl import Row, read_rows, write_rows
from palate.evaluation.active_learning import DrawnMembers, prompt_features
from palate.evaluation.coverage.prompt_reach import features_of, prompt_reach
from palate.models.scalar import load_scalar
from palate.text.pack import Tree
from palate.text.spans import NO_LIMIT
from palate.training.comparisons import judged_prompts

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Right = Mapping[str, Sequence[Fits]]
"""What is right, by way: the fits of each size."""

RANDOM = "random"
RESAMPLES = 2000
MOST = math.log(1000)
"""A way that needs a thousand times the labels never gets there."""
REWARD: Mapping[str, Any] = {
    "score": "mean_pooled",
    "epochs": 4,
    "adapters": {"kind": "lora", "rank": 1, "alpha": 0.01, "target_modules": ["1.mlp.down_proj"]},
    "optimizer": {"lr": 1e-2, "weight_decay": 0.01},
}
"""How reward models learn. Few labels teach a head on a frozen model as much as the whole model, at half of the cost. An adapter of this
weight hardly moves the model."""


def stages(options: argparse.Namespace) -> dict[str, Any]:
    """Return the stages: the world, samples of SFT that people may be asked about, the truth on other prompts, and a reward model."""
    known: dict[str, Any] = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["stages"]
    reward = {**known["reward-people"], "preferences": "$people/preferences.jsonl", "reference_samples": None, **REWARD}
    return {
        "world": {**known["world"], "kitchen": {"texts": options.texts}},
        **{name: known[name] for name in ("base", "sft")},
        "samples": {**known["samples"], "limit": options.prompts},
        "people": {**known["people"], "held_out": 0},
        "test-samples": {**known["test-samples"], "limit": options.tests},
        "truth": known["truth"],
        "reward": reward,
    }


@dataclass(frozen=True)
class AskablePairs:
    """The n pairs of a pool with the answers that they would get.

    Attributes:
        rows: (n,) rows of preferences that the answers on each pair make, one per dimension.
        preferences: (n,) the same as preferences.
        prompt: (n,) the number of each pair's prompt.
        texts: the prompts.
    """

    rows: Sequence[Sequence[Row]]
    preferences: Sequence[Sequence[Preference]]
    prompt: Ints
    texts: Sequence[str]

    @staticmethod
    def read(labels: Path) -> AskablePairs:
        """Read a run of collect."""
        path = labels / "preferences.jsonl"
        rows: dict[str, list[Row]] = {}
        preferences: dict[str, list[Preference]] = {}
        for (_, row), preference in zip(read_rows(path), read_preferences(path).rows, strict=True):
            pair = str(row["id"]).rpartition("/")[0]
            rows.setdefault(pair, []).append(row)
            preferences.setdefault(pair, []).append(preference)
        asked = [own[0].prompt.text for own in preferences.values()]
        texts = list(dict.fromkeys(asked))
        numbers = np.array([texts.index(text) for text in asked], dtype=np.int64)
        return AskablePairs(list(rows.values()), list(preferences.values()), numbers, texts)

    def trees(self, tokenizer: PreTrainedTokenizerBase) -> tuple[list[Tree], Ints, Ints]:
        """Return a tree per prompt, and the numbers (n,) of each pair's branches over all trees; both are 0 where a pair has no use."""
        judged, _ = judged_prompts([one for own in self.preferences for one in own], tokenizer, NO_LIMIT)
        sides, start = {}, 0
        for prompt in judged:
            for pair, preference in zip(prompt.pairs, prompt.preferences, strict=True):
                sides[id(preference)] = (start + pair.chosen, start + pair.rejected)
            start += len(prompt.tree.branches)
        both = np.array([sides.get(id(own[0]), (0, 0)) for own in self.preferences], dtype=np.int64)
        return [prompt.tree for prompt in judged], both[:, 0], both[:, 1]


@dataclass(frozen=True)
class AskingRound:
    """What one fit asks.

    Attributes:
        pipeline: the pipeline of the seed.
        draw: number of the fit.
        sizes: pairs asked about after each batch.
    """

    pipeline: LazyPipeline
    draw: int
    sizes: Sequence[int]

    @cached_property
    def pool(self) -> AskablePairs:
        """The pairs, with answers drawn for this fit."""
        further = f"people-{self.draw}"
        return AskablePairs.read(self.pipeline.run_copy("people", further, self.seed) if self.draw else self.pipeline.run("people"))

    @property
    def seed(self) -> int:
        """The seed of this fit."""
        return self.pipeline.seed + FIT_SEEDS * self.draw

    def rewards(self, way: str) -> list[Path]:
        """Return the reward models of a way, one per size."""
        rng = np.random.default_rng(derive_seed(self.seed, "queue"))
        asked = rng.permutation(len(self.pool.prompt))[: self.sizes[0]]
        runs = [self._reward("start", asked)]
        for before, size in pairwise(self.sizes):
            own = np.random.default_rng(derive_seed(self.seed, "queue", way, size))
            asked = np.concatenate([asked, self._next(way, asked, size - before, runs[-1], own)])
            runs.append(self._reward(way, asked))
        return runs

    def _reward(self, way: str, asked: Ints) -> Path:
        """Return the reward model that learned from the answers on these pairs."""
        name = f"queue-{way.replace(' ', '-')}-{len(asked)}-{self.draw}"
        path = self.pipeline.root / "asked" / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_rows(path, [row for k in asked for row in self.pool.rows[k]])
        return self.pipeline.run_copy("reward", name, self.seed, preferences=str(path))

    def _next(self, way: str, asked: Ints, count: int, run: Path, rng: np.random.Generator) -> Ints:
        """Return the numbers of the next pairs. All ways but the first leave a share of them to chance."""
        left = np.setdiff1d(np.arange(len(self.pool.prompt)), asked)
        if way == RANDOM:
            return rng.permutation(left)[:count]
        left = rng.permutation(left)
        ordered = left[WAYS[way](self, asked, left, run)][: count - math.ceil(LEAST_RANDOM * count)]
        rest = rng.permutation(np.setdiff1d(left, ordered))[: count - len(ordered)]
        return np.concatenate([ordered, rest])

    def uncertain(self, asked: Ints, left: Ints, run: Path) -> Ints:
        """Order pairs by the model's disagreement."""
        return np.argsort(-self._disagreement(asked, run)[0][left], kind="stable")

    def diverse(self, asked: Ints, left: Ints, run: Path) -> Ints:
        """Order pairs as the queue `uncertain` does."""
        spread, features = self._disagreement(asked, run)
        return diverse_order(spread[left], features[self.pool.prompt[left]], np.zeros(len(left), dtype=bool))

    def coverage(self, asked: Ints, left: Ints, run: Path) -> Ints:  # noqa: ARG002 (the others need the model)
        """Order pairs as `palate coverage --queue` does."""
        judged = [self.pool.texts[k] for k in np.unique(self.pool.prompt[asked])]
        need = prompt_reach(self.pool.texts, judged, self.seed).need.astype(np.float64)
        which = self.pool.prompt[left]
        return diverse_order(need[which], features_of(self.pool.texts)[which].astype(np.float64), np.zeros(len(left), dtype=bool))

    def _disagreement(self, asked: Ints, run: Path) -> tuple[Floats, Floats]:
        """Return the disagreement (n,) about each pair of heads drawn from a reward model's last layer, and features of each prompt."""
        model = load_scalar(run / "model")
        trees, first, second = self.pool.trees(model.tokenizer)
        learned, _ = judged_prompts([one for k in asked for one in self.pool.preferences[k]], model.tokenizer, NO_LIMIT)
        members = DrawnMembers(model, learned, self.seed)
        states = members.reward.states(trees).double().numpy()
        spread = [ensemble_disagreement(one[first], one[second]) ** 0.5 for one in members.member_scores(trees, states).values()]
        ends = np.cumsum([0, *(len(tree.branches) for tree in trees)])
        return np.mean(spread, axis=0), prompt_features(np.stack([states[start:end].mean(0) for start, end in pairwise(ends)]))


Order = Callable[[AskingRound, Ints, Ints, Path], Ints]
WAYS: Mapping[str, Order] = {
    "uncertain": AskingRound.uncertain,
    "uncertain and diverse": AskingRound.diverse,
    "coverage": AskingRound.coverage,
}
"""Orders of what is left, by the name of the way."""


def saved_labels(curves: Mapping[str, Floats], sizes: Sequence[int]) -> dict[str, float]:
    """Return the share of labels that each way saves for what random's line reaches with all; -inf where it never gets there.

    `curves` are accuracies (sizes,) by way.
    """
    logs = np.log(np.array(sizes, dtype=np.float64))
    lines = {way: np.polyfit(logs, curve, 1) for way, curve in curves.items()}
    goal = float(np.polyval(lines[RANDOM], logs[-1]))
    return {way: _saved((goal - at) / slope - float(logs[-1])) if slope > 0 else -math.inf for way, (slope, at) in lines.items()}


def _saved(more: float) -> float:
    """Return the share of labels that is saved where the logarithm of their number grows by `more`."""
    return 1 - math.exp(more) if more < MOST else -math.inf


def resampled(right: Right, rng: np.random.Generator | None) -> dict[str, Floats]:
    """Return the accuracy (sizes,) of each way, with fits and prompts drawn again; None draws nothing.

    One fit less than there are is drawn, because as many would vary too little where they are few. Source: Rao and Wu 1988.
    """
    some = next(iter(right.values()))[0]
    fits, (prompts, place) = np.arange(len(some.right)), np.unique(some.prompt, return_inverse=True)
    weight = np.ones(len(prompts))
    if rng is not None:
        fits = rng.integers(len(fits), size=max(len(fits) - 1, 1))
        weight = np.bincount(rng.integers(len(prompts), size=len(prompts)), minlength=len(prompts)).astype(np.float64)
    weights = weight[place] / weight[place].sum()
    return {way: np.array([float(one.right[fits].mean(0) @ weights) for one in sizes]) for way, sizes in right.items()}


def mean_curves(kitchens: Sequence[Mapping[str, Floats]]) -> dict[str, Floats]:
    """Return the mean accuracy over kitchens (sizes,) of each way."""
    return {way: np.mean([one[way] for one in kitchens], axis=0) for way in kitchens[0]}


def figures(kitchens: Sequence[Right], sizes: Sequence[int]) -> dict[str, tuple[Floats, Estimate, Estimate]]:
    """Return for each way the accuracies by size, the last one less that of random, and the share of labels saved, over kitchens."""
    rng = np.random.default_rng(0)
    point = mean_curves([resampled(one, None) for one in kitchens])
    draws = [mean_curves([resampled(one, rng) for one in kitchens]) for _ in range(RESAMPLES)]
    saved = saved_labels(point, sizes)
    every = [saved_labels(draw, sizes) for draw in draws]
    count = sum(len(np.unique(next(iter(one.values()))[0].prompt)) for one in kitchens)
    found = {}
    for way in point:
        gap = from_draws(float(point[way][-1] - point[RANDOM][-1]), np.array([draw[way][-1] - draw[RANDOM][-1] for draw in draws]), count)
        found[way] = (point[way], gap, from_draws(saved[way], np.array([draw[way] for draw in every]), count))
    return found


def table(kitchens: Sequence[Right], sizes: Sequence[int]) -> str:
    """Return a Markdown table: a row per way with its accuracy by the number of pairs asked about."""
    heads = [*(f"{size} pairs" for size in sizes), f"at {sizes[-1]}, less random", "labels saved"]
    lines = [f"| way | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for way, (curve, gap, saved) in figures(kitchens, sizes).items():
        last = ["", ""] if way == RANDOM else [_signed(gap, 3), _signed(saved, 2)]
        lines.append(f"| {way} | {' | '.join([*(f'{value:.3f}' for value in curve), *last])} |")
    return "\n".join(lines)


def _signed(one: Estimate, digits: int) -> str:
    ends = ["never" if math.isinf(end) else f"{end:+.{digits}f}" for end in (one.value, one.low, one.high)]
    return f"{ends[0]} ({ends[1]} to {ends[2]})"


def main() -> int:
    """Run what is not done yet below `--runs`, one folder per seed; return exit status 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queue_orders", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[160, 161, 162])
    parser.add_argument("--sizes", type=int, nargs="+", default=[150, 450], help="pairs asked about after each batch")
    parser.add_argument("--fits", type=int, default=2, help="times that each way asks, with other answers and first pairs")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), help="ways beside random")
    parser.add_argument("--texts", type=int, default=16_000, help="documents of the base corpus")
    parser.add_argument("--prompts", type=int, default=600, help="prompts whose pairs may be asked about")
    parser.add_argument("--tests", type=int, default=250, help="prompts that test")
    parser.add_argument("--runs", type=Path, default=Path("runs/bench-queue"))
    options = parser.parse_args()
    kitchens: list[Right] = []
    for seed in options.seeds:
        root = seed_root(options, seed)
        file = write_pipeline(root / "queue.yaml", {"name": "queue", "stages": stages(options)})
        pipeline = LazyPipeline(seed, root, file)
        rounds = [AskingRound(pipeline, draw, options.sizes) for draw in range(options.fits)]
        runs = {way: [one.rewards(way) for one in rounds] for way in (RANDOM, *options.ways)}
        kitchens.append({way: [Fits.read(same) for same in zip(*own, strict=True)] for way, own in runs.items()})
        print(f"seed {seed}\n\n{table(kitchens[-1:], options.sizes)}\n", flush=True)
    if len(kitchens) > 1:
        print(f"mean of these kitchens\n\n{table(kitchens, options.sizes)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

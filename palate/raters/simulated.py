"""Simulated raters: a pool of people with known reliability, biases and taste, through which they see a gold score."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from palate.config.functions import load_gold
from palate.config.types import FunctionInput, Share
from palate.core import Comparison, Completion, ConfigError, Gold, Judgment, Prompt, derive_seed
from palate.raters.rater import Answered, Ask, refuse_rankings
from palate.runs.run import Run

OVERALL = "overall"
"""The dimension of a question about everything together."""

CEILING_SAMPLE = 2000
"""Questions at most that a ceiling is estimated from."""

GoldScores = Callable[[Prompt, str], Mapping[str, float]]
"""Gold scores by dimension, of the text of a completion."""


@dataclass(frozen=True)
class RaterPool:
    """A pool of simulated raters, each drawn around these means; docs/kitchen.md shows the effect of each number.

    Attributes:
        raters: number of people.
        reliability: share of judgments for which a rater looks at the answers; the others are random.
        sharpness: logits per unit of gold difference, which says how well a rater sees quality.
        side_bias: logits in favour of the answer shown first; its sign differs between raters.
        length_bias: logits per ten words that a completion is longer than the other.
        phrases: sentences that please raters although they add no quality.
        phrase_bias: logits per such sentence.
        indifference: a rater who sees a difference of fewer logits than this answers with a tie.
        taste: weight of each dimension in an overall judgment; dimensions that are not named weigh 1.
        spread: how much raters differ; each number is multiplied by a factor between 1 - spread and 1 + spread.
    """

    raters: int = 12
    reliability: float = 0.9
    sharpness: float = 6.0
    side_bias: float = 0.2
    length_bias: float = 0.3
    phrases: tuple[str, ...] = ()
    phrase_bias: float = 0.3
    indifference: float = 0.1
    taste: dict[str, float] = field(default_factory=dict)
    spread: float = 0.4

    def __post_init__(self) -> None:
        if not 0 <= self.reliability <= 1:
            raise ConfigError(f"reliability is a share, got {self.reliability}; give a number from 0 to 1")
        if self.raters < 1:
            raise ConfigError(f"raters is the size of the pool, got {self.raters}; give at least 1")

    def sample_raters(self, gold: Gold, seed: int) -> tuple[SimulatedRater, ...]:
        """Return the raters of the pool; the same seed gives the same people."""
        gold_scores = _cached(gold)
        return tuple(SimulatedRater(f"simulated-{k}", self, gold_scores, seed) for k in range(self.raters))


@dataclass(frozen=True)
class SimulatedRater:
    """One person of a pool; all their traits follow from the pool's numbers, their id and the seed."""

    id: str
    pool: RaterPool
    gold_scores: GoldScores
    seed: int

    def first_wins(self, comparison: Comparison, dimension: str, order: tuple[int, ...]) -> float:
        """Return the probability that this rater prefers the answer shown first; random answers count, ties do not."""
        pool = self.pool
        logit = self._perceived_gap(comparison, dimension, order) + self._trait("side", pool.side_bias, signed=True)
        reliability = self._trait("reliability", pool.reliability)
        return reliability / (1 + math.exp(min(-logit, 700.0))) + (1 - reliability) / 2  # e^710 has no float

    def judge(self, comparison: Comparison, dimension: str, order: tuple[int, ...], seed: int) -> Judgment:
        """Return the answer to a pair as shown in `order`; another `seed` stands for another moment."""
        if len(comparison.completions) != 2:
            raise ConfigError(f"simulated raters judge pairs, got {len(comparison.completions)} completions in {comparison.id}")
        draw = _uniform(self.id, comparison.id, dimension, seed)
        ranking: tuple[tuple[int, ...], ...] = ((0,), (1,)) if draw < self.first_wins(comparison, dimension, order) else ((1,), (0,))
        if abs(self._perceived_gap(comparison, dimension, order)) < self._trait("indifference", self.pool.indifference):
            ranking = ((0, 1),)
        return Judgment(comparison.id, self.id, ranking, dimension, order)

    def _perceived_gap(self, comparison: Comparison, dimension: str, order: tuple[int, ...]) -> float:
        first, second = (self._appeal(comparison.prompt, comparison.completions[k], dimension) for k in order)
        return first - second

    def _appeal(self, prompt: Prompt, completion: Completion, dimension: str) -> float:
        """Return how much a completion appeals, in logits, for its gold score as seen, its length and its pleasing phrases."""
        pool, text = self.pool, completion.text
        scores = self.gold_scores(prompt, self._without_phrases(text))
        if dimension == OVERALL:
            weights = {dimension: self._trait(f"taste/{dimension}", pool.taste.get(dimension, 1.0)) for dimension in scores}
            score = sum(weights[dimension] * scores[dimension] for dimension in scores) / sum(weights.values())
        else:
            score = scores[dimension]
        num_phrases = sum(text.count(phrase) for phrase in pool.phrases)
        return (
            self._trait("sharpness", pool.sharpness) * score
            + self._trait("length", pool.length_bias) * len(text.split()) / 10
            + self._trait("phrases", pool.phrase_bias) * num_phrases
        )

    def _without_phrases(self, text: str) -> str:
        """Return the text whose quality is judged; pleasing sentences affect the rater but are not checked."""
        for phrase in self.pool.phrases:
            text = text.replace(f"{phrase} . ", "").replace(f" {phrase} .", "")
        return text

    def _trait(self, trait: str, mean: float, *, signed: bool = False) -> float:
        """Return this rater's value of a trait, drawn around the pool's mean."""
        deviation = 2 * _trait_uniform(self.seed, self.id, trait) - 1
        if signed:
            return mean * deviation * 2
        if trait == "reliability":
            return mean + min(mean, 1 - mean) * deviation  # stays between 0 and 1
        return mean * (1 + self.pool.spread * deviation)


def _cached(gold: Gold) -> GoldScores:
    """Return the gold function with a cache: each text is scored once, however many raters look at it."""
    cache: dict[tuple[str, str], Mapping[str, float]] = {}

    def scores(prompt: Prompt, text: str) -> Mapping[str, float]:
        key = prompt.id, text
        if key not in cache:
            cache[key] = gold(prompt.text, text, **prompt.fields)
        return cache[key]

    return scores


@lru_cache(maxsize=10_000)
def _trait_uniform(seed: int, rater: str, trait: str) -> float:
    return _uniform(seed, rater, trait)


def _uniform(*parts: object) -> float:
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def oracle_accuracy(raters: Sequence[SimulatedRater], comparison: Comparison, dimension: str) -> float:
    """Return the best possible accuracy, in [0.5, 1], of predicting a random rater's preference on this pair."""
    order = (0, 1)
    share = sum(rater.first_wins(comparison, dimension, order) for rater in raters) / len(raters)
    return max(share, 1 - share)


@dataclass(frozen=True)
class Simulated:
    """A pool of simulated raters, as the rater of stage `collect`.

    Attributes:
        gold: import path of the function whose scores they see, such as package.module:function.
        pool: number and traits of the raters.
        repeat_share: share of questions that one more rater answers; agreement is measured where there are two or more.
    """

    gold: FunctionInput
    kind: Literal["simulated"] = "simulated"
    pool: RaterPool = field(default_factory=RaterPool)
    repeat_share: Share = 0.15

    def check(self, raters_per_comparison: int, dimensions: Sequence[str], completions: int = 2) -> None:  # noqa: ARG002
        """Raise ConfigError for rankings, or when the pool has fewer raters than a question needs."""
        refuse_rankings("simulated", completions)
        if raters_per_comparison > self.pool.raters:
            raise ConfigError(
                f"raters_per_comparison must be at most {self.pool.raters}, the number of raters in the pool, got {raters_per_comparison}: "
                "nobody answers a question twice"
            )

    def answers(
        self, run: Run, asks: Sequence[Ask], raters_per_comparison: int, rng: random.Random
    ) -> tuple[list[Answered], dict[str, object]]:
        """Return all questions with judgments, and `ceilings`: by dimension, the best accuracy in predicting one of the raters."""
        raters = self.pool.sample_raters(load_gold(self.gold), derive_seed(run.seed, "crowd"))
        answers: list[Answered] = []
        with run.progress(len(asks), "collect") as advance:
            for comparison, dimension in asks:
                chosen = rng.sample(raters, min(raters_per_comparison + (rng.random() < self.repeat_share), len(raters)))
                orders = [rng.choice(((0, 1), (1, 0))) for _ in chosen]
                judgments = [rater.judge(comparison, dimension, order, run.seed) for rater, order in zip(chosen, orders, strict=True)]
                answers.append(((comparison, dimension), judgments))
                advance(1)
        names = dict.fromkeys((*(dimension for _, dimension in asks), OVERALL))
        asks_by_name = {name: [ask for ask in asks if name in (ask[1], OVERALL)] for name in names}
        return answers, {"ceilings": {name: _ceiling(raters, own) for name, own in asks_by_name.items()}}


def _ceiling(raters: Sequence[SimulatedRater], asks: Sequence[Ask]) -> float:
    """Return the best possible accuracy of predicting a random rater, over at most `CEILING_SAMPLE` of the questions."""
    # Drawn at random: questions about the same pair follow one another, so every k-th one could be about the same dimension.
    sample = random.Random(0).sample(asks, min(CEILING_SAMPLE, len(asks)))
    return sum(oracle_accuracy(raters, comparison, dimension) for comparison, dimension in sample) / len(sample)

"""Simulated raters: people with known reliability, biases and taste, who look at a gold score through them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from palate.core import Comparison, Completion, ConfigError, Gold, Judgment, Prompt

OVERALL = "overall"
Worth = Callable[[Prompt, str], Mapping[str, float]]
"""Gold scores by dimension of a completion's text."""


@dataclass(frozen=True)
class RaterPool:
    """A crew of simulated raters, each drawn around these means; docs/kitchen.md shows what each number does.

    Attributes:
        raters: how many people.
        reliability: share of judgments that a rater really looks at; the others are a coin's toss.
        sharpness: logits per unit of gold difference: how well quality is seen when looked at.
        side_bias: logits in favour of what is shown first; its sign differs between raters.
        length_bias: logits for each ten words that a completion is longer than the other.
        phrases: sentences that please a rater beyond their worth.
        phrase_bias: logits for each such sentence more.
        indifference: a rater who sees a difference of fewer logits than this calls it a tie.
        taste: weight of each dimension in a rater's overall judgment; dimensions not named weigh 1.
        spread: how much raters differ: each number is multiplied by up to 1 +- spread.
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
            raise ConfigError(f"raters is the size of the crew, got {self.raters}; give at least 1")

    def sample_raters(self, gold: Gold, seed: int) -> tuple[SimulatedRater, ...]:
        """The crew: the same people for the same seed."""
        remembered = _remembering(gold)
        return tuple(SimulatedRater(f"simulated-{k}", self, remembered, seed) for k in range(self.raters))


@dataclass(frozen=True)
class SimulatedRater:
    """One person of a crew; everything about them follows from the crew's numbers, their id and the seed."""

    id: str
    pool: RaterPool
    worth: Worth
    seed: int

    def first_wins(self, comparison: Comparison, dimension: str, order: tuple[int, ...]) -> float:
        """Probability in [0, 1] that this rater prefers what is shown first, coin tosses counted in, ties left out."""
        crowd = self.pool
        logit = self._seen(comparison, dimension, order) + self._own("side", crowd.side_bias, signed=True)
        reliability = self._own("reliability", crowd.reliability)
        return reliability / (1 + math.exp(min(-logit, 700.0))) + (1 - reliability) / 2  # e^710 has no float

    def judge(self, comparison: Comparison, dimension: str, order: tuple[int, ...], seed: int) -> Judgment:
        """The answer to a pair as shown in `order`; `seed` stands for the moment at which they look."""
        if len(comparison.completions) != 2:
            raise ConfigError(f"simulated raters judge pairs, got {len(comparison.completions)} completions in {comparison.id}")
        toss = _uniform(self.id, comparison.id, dimension, seed)
        ranking: tuple[tuple[int, ...], ...] = ((0,), (1,)) if toss < self.first_wins(comparison, dimension, order) else ((1,), (0,))
        if abs(self._seen(comparison, dimension, order)) < self._own("indifference", self.pool.indifference):
            ranking = ((0, 1),)
        return Judgment(comparison.id, self.id, ranking, dimension, order)

    def _seen(self, comparison: Comparison, dimension: str, order: tuple[int, ...]) -> float:
        first, second = (self._appeal(comparison.prompt, comparison.completions[k], dimension) for k in order)
        return first - second

    def _appeal(self, prompt: Prompt, completion: Completion, dimension: str) -> float:
        """How much a completion appeals, in logits: its gold score as seen, its length, its pleasing phrases."""
        crowd, text = self.pool, completion.text
        dimensions = self.worth(prompt, self._read_past(text))
        if dimension == OVERALL:
            weights = {dimension: self._own(f"taste/{dimension}", crowd.taste.get(dimension, 1.0)) for dimension in dimensions}
            worth = sum(weights[dimension] * dimensions[dimension] for dimension in dimensions) / sum(weights.values())
        else:
            worth = dimensions[dimension]
        pleasing = sum(text.count(phrase) for phrase in crowd.phrases)
        return (
            self._own("sharpness", crowd.sharpness) * worth
            + self._own("length", crowd.length_bias) * len(text.split()) / 10
            + self._own("phrases", crowd.phrase_bias) * pleasing
        )

    def _read_past(self, text: str) -> str:
        """The text as a rater takes it in: pleasing sentences are felt, not checked."""
        for phrase in self.pool.phrases:
            text = text.replace(f"{phrase} . ", "").replace(f" {phrase} .", "")
        return text

    def _own(self, trait: str, mean: float, *, signed: bool = False) -> float:
        """This rater's own value of a trait, around the crew's mean."""
        deviation = 2 * _trait(self.seed, self.id, trait) - 1
        if signed:
            return mean * deviation * 2
        if trait == "reliability":
            return mean + min(mean, 1 - mean) * deviation  # a share stays one
        return mean * (1 + self.pool.spread * deviation)


def _remembering(gold: Gold) -> Worth:
    """The gold scores by dimension of a prompt and a completion's text; each is computed once, however many raters look."""
    known: dict[tuple[str, str], Mapping[str, float]] = {}

    def worth(prompt: Prompt, text: str) -> Mapping[str, float]:
        key = prompt.id, text
        if key not in known:
            known[key] = gold(prompt.text, text, **prompt.fields)
        return known[key]

    return worth


@lru_cache(maxsize=10_000)
def _trait(seed: int, rater: str, trait: str) -> float:
    return _uniform(seed, rater, trait)


def _uniform(*parts: object) -> float:
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def oracle_accuracy(raters: Sequence[SimulatedRater], comparison: Comparison, dimension: str) -> float:
    """The best accuracy anyone could have in predicting a random rater's preference on this pair, in [0.5, 1]."""
    order = (0, 1)
    chance = sum(rater.first_wins(comparison, dimension, order) for rater in raters) / len(raters)
    return max(chance, 1 - chance)

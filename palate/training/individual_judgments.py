"""Single judgments and rankings from judged prompts, for the reward objectives that learn from them."""

from __future__ import annotations

import itertools
import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from palate.training.comparisons import BranchPair, JudgedPrompt

MAX_ORDERS = 24
"""Largest number of strict orders that represent a ranking with ties; enough for all orders of four."""

ORDERS_SEED = 0


def single_judgments(judged: Sequence[JudgedPrompt], rater_weights: Mapping[str, float]) -> list[JudgedPrompt]:
    """Return the prompts with a pair per judgment, labelled 1, 0 or 0.5 by that rater; weights of 0 are left out.

    A preference without votes is one judgment, by nobody who is named.

    Args:
        judged: prompts with conclusions.
        rater_weights: weight of a rater's judgments; raters that are not named have weight 1.
    """
    result = []
    for prompt in judged:
        pairs, preferences = [], []
        for pair, preference in zip(prompt.pairs, prompt.preferences, strict=True):
            for rater, vote in preference.votes or (("", preference.probability),):
                weight = pair.weight * rater_weights.get(rater, 1.0)
                if weight > 0:
                    pairs.append(replace(pair, probability=vote, weight=weight, rater=rater))
                    preferences.append(preference)
        if pairs:
            result.append(replace(prompt, pairs=tuple(pairs), preferences=tuple(preferences)))
    return result


def raters_of(judged: Sequence[JudgedPrompt]) -> dict[str, int]:
    """Return the number of judgments by rater; "" stands for judgments without a name."""
    counts: dict[str, int] = defaultdict(int)
    for prompt in judged:
        for pair in prompt.pairs:
            counts[pair.rater] += 1
    return dict(sorted(counts.items()))


@dataclass(frozen=True)
class Ranking:
    """The completions of a prompt on one dimension: branch numbers in tiers, best first; a tier of two is a tie."""

    tiers: tuple[tuple[int, ...], ...]
    dimension: str
    weight: float

    def orders(self) -> list[tuple[int, ...]]:
        """Return the strict orders that agree with the ranking: all of them, or 24 drawn at random where there are more.

        The mean of a loss over them is its expectation when ties are broken at random. For two tied completions it equals the loss of a
        label of 0.5.
        """
        if math.prod(math.factorial(len(tier)) for tier in self.tiers) <= MAX_ORDERS:
            return [tuple(itertools.chain(*parts)) for parts in itertools.product(*map(itertools.permutations, self.tiers))]
        rng = random.Random(ORDERS_SEED)
        return [tuple(itertools.chain(*(rng.sample(tier, len(tier)) for tier in self.tiers))) for _ in range(MAX_ORDERS)]


def rankings_of(prompt: JudgedPrompt) -> list[Ranking]:
    """Return a ranking for each dimension on which every two of the prompt's judged completions were compared.

    Completions are ordered by their shares of votes, added up over all others. Under Bradley-Terry this is the order of the most likely
    scores. Consistent judgments give exactly their order; equal shares, as in a cycle, are a tie.
    """
    rankings = []
    for dimension in dict.fromkeys(pair.dimension for pair in prompt.pairs):
        pairs = [pair for pair in prompt.pairs if pair.dimension == dimension and pair.weight > 0]
        shares, weight = _shares(pairs)
        branches = sorted({branch for key in shares for branch in key})
        if not pairs or len(shares) < math.comb(len(branches), 2):
            continue
        wins: dict[int, float] = defaultdict(float)
        for (low, high), share in shares.items():
            wins[low] += share
            wins[high] += 1 - share
        tiers = itertools.groupby(sorted(branches, key=lambda k: -round(wins[k], 9)), key=lambda k: round(wins[k], 9))
        rankings.append(Ranking(tuple(tuple(tier) for _, tier in tiers), dimension, weight))
    return rankings


def _shares(pairs: Sequence[BranchPair]) -> tuple[dict[tuple[int, int], float], float]:
    """Return, per two completions (lower branch number first), the weighted share that prefers the lower; and the mean weight of a pair."""
    votes: dict[tuple[int, int], float] = defaultdict(float)
    weights: dict[tuple[int, int], float] = defaultdict(float)
    for pair in pairs:
        low, high = sorted((pair.chosen, pair.rejected))
        votes[low, high] += pair.weight * (pair.probability if pair.chosen == low else 1 - pair.probability)
        weights[low, high] += pair.weight
    return {key: votes[key] / weights[key] for key in votes}, sum(weights.values()) / max(len(weights), 1)

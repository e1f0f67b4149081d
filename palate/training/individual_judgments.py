"""What reward objectives learn from: a prompt's conclusions, the single judgments behind them, or its whole ranking."""

from __future__ import annotations

import itertools
import math
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from palate.core import DataError, Preference
from palate.training.comparisons import BranchPair, JudgedPrompt

MAX_ORDERS = 24
"""Strict orders that stand for a ranking with ties at most; all orders of four."""

ORDERS_SEED = 0


def single_judgments(judged: Sequence[JudgedPrompt], rater_weights: Mapping[str, float]) -> list[JudgedPrompt]:
    """The same prompts with a pair for each judgment, its label 1, 0 or 0.5 as that rater said; weights of 0 are left out.

    A row's `votes` (for chosen) and `raters`, as `collect` writes them, are its judgments. A row without them is one
    judgment, by its `rater` if it names one.

    Args:
        judged: prompts with conclusions.
        rater_weights: how much a rater's judgments count; those not named count 1.

    Raises:
        DataError: votes that are no shares, or not as many as raters.
    """
    result = []
    for one in judged:
        pairs, preferences = [], []
        for pair, preference in zip(one.pairs, one.preferences, strict=True):
            for vote, rater in _votes(preference):
                weight = pair.weight * rater_weights.get(rater, 1.0)
                if weight > 0:
                    pairs.append(replace(pair, probability=vote, weight=weight, rater=rater))
                    preferences.append(preference)
        if pairs:
            result.append(replace(one, pairs=tuple(pairs), preferences=tuple(preferences)))
    return result


def _votes(preference: Preference) -> Iterator[tuple[float, str]]:
    """Each judgment behind a preference: 1 when chosen won, 0 when rejected did, 0.5 for a tie; and whose it is."""
    fields, source = preference.prompt.fields, preference.prompt.source
    votes, raters = fields.get("votes"), fields.get("raters")
    if not isinstance(votes, list):  # some data has a count of that name
        rater = fields.get("rater")
        yield preference.probability, rater if isinstance(rater, str) else ""
        return
    if not all(isinstance(vote, int | float) and 0 <= vote <= 1 for vote in votes):
        raise DataError(f"{source}: `votes` must be 1 for chosen, 0 for rejected, 0.5 for a tie, got {votes}")
    names = [""] * len(votes) if raters is None else raters
    if not isinstance(names, list) or len(names) != len(votes) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{source}: `raters` must name who cast each of the {len(votes)} votes, got {raters}")
    yield from zip(map(float, votes), names, strict=True)


def raters_of(judged: Sequence[JudgedPrompt]) -> dict[str, int]:
    """Who judged, and how many judgments each made, by name; "" for judgments that name nobody."""
    counts: dict[str, int] = defaultdict(int)
    for one in judged:
        for pair in one.pairs:
            counts[pair.rater] += 1
    return dict(sorted(counts.items()))


@dataclass(frozen=True)
class Ranking:
    """The completions of a prompt as judged on one dimension: branch numbers in tiers, best first; a tier of two is a tie."""

    tiers: tuple[tuple[int, ...], ...]
    dimension: str
    weight: float

    def orders(self) -> list[tuple[int, ...]]:
        """The strict orders that agree with it: all of them, or 24 drawn at random where there are more.

        The mean of a loss over them is its expectation when ties are broken by coins: for two tied completions it is
        that of a label of 0.5.
        """
        if math.prod(math.factorial(len(tier)) for tier in self.tiers) <= MAX_ORDERS:
            return [tuple(itertools.chain(*parts)) for parts in itertools.product(*map(itertools.permutations, self.tiers))]
        rng = random.Random(ORDERS_SEED)
        return [tuple(itertools.chain(*(rng.sample(tier, len(tier)) for tier in self.tiers))) for _ in range(MAX_ORDERS)]


def rankings_of(one: JudgedPrompt) -> list[Ranking]:
    """A ranking for each dimension on which every two of the prompt's judged completions were compared.

    Completions stand in the order of their shares of votes, added up over all others: under Bradley-Terry that is the order of the
    most likely scores. Consistent judgments give exactly their order; equal shares, as in a circle, are a tie.
    """
    found = []
    for dimension in dict.fromkeys(pair.dimension for pair in one.pairs):
        pairs = [pair for pair in one.pairs if pair.dimension == dimension and pair.weight > 0]
        shares, weight = _shares(pairs)
        branches = sorted({branch for key in shares for branch in key})
        if not pairs or len(shares) < math.comb(len(branches), 2):
            continue
        wins: dict[int, float] = defaultdict(float)
        for (low, high), share in shares.items():
            wins[low] += share
            wins[high] += 1 - share
        tiers = itertools.groupby(sorted(branches, key=lambda k: -round(wins[k], 9)), key=lambda k: round(wins[k], 9))
        found.append(Ranking(tuple(tuple(tier) for _, tier in tiers), dimension, weight))
    return found


def _shares(pairs: Sequence[BranchPair]) -> tuple[dict[tuple[int, int], float], float]:
    """For each two completions (lower branch number first) the weighted share that prefers the lower, and the mean weight of a pair."""
    votes: dict[tuple[int, int], float] = defaultdict(float)
    weights: dict[tuple[int, int], float] = defaultdict(float)
    for pair in pairs:
        low, high = sorted((pair.chosen, pair.rejected))
        votes[low, high] += pair.weight * (pair.probability if pair.chosen == low else 1 - pair.probability)
        weights[low, high] += pair.weight
    return {key: votes[key] / weights[key] for key in votes}, sum(weights.values()) / max(len(weights), 1)

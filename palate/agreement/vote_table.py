"""Votes on pairs with what is known beside them: sides shown, time, lengths, policies, hidden tests. The analysis of raters reads it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from palate.agreement.estimates import Floats, Ints
from palate.agreement.votes import PAIR_ANSWERS, Votes, pairs_of
from palate.core import Comparison, DataError, Judgment

Ranking = tuple[tuple[int, ...], ...]
"""Completions of a comparison by number, in tiers, best first."""


@dataclass(frozen=True, slots=True, eq=False)
class VoteTable:
    """Votes on pairs and columns beside them. An unknown value is -1, or NaN for real numbers.

    Attributes:
        votes: the votes; answers are first, tie, second.
        shown: (n,) 0 when the item's first completion was shown first, 1 when its second was.
        seconds: (n,) time spent on the vote.
        words: (items, 2) lengths of both completions in words.
        policy: (items, 2) numbers of the policies that wrote the completions.
        gold: (items,) the right answer of a hidden test. Tests say how often raters are right, and count in nothing else.
        dimension: (items,) number of the dimension that was asked about.
        strength: (n,) how much better the preferred one is, on the scale of the question; ties are 0.
        comparison: (items,) number of the comparison. The pairs of one ranking go together in every error and count.
        policies: names of the policies.
        dimensions: names of the dimensions.
    """

    votes: Votes
    shown: Ints
    seconds: Floats
    words: Floats
    policy: Ints
    gold: Ints
    dimension: Ints
    strength: Floats
    comparison: Ints
    policies: tuple[str, ...] = ()
    dimensions: tuple[str, ...] = ("overall",)

    def __post_init__(self) -> None:
        """Checks the shapes."""
        n, items = len(self.votes), len(self.votes.items)
        if self.votes.answers != PAIR_ANSWERS:
            raise DataError(f"a table of votes is on pairs: answers must be {', '.join(PAIR_ANSWERS)}, got {', '.join(self.votes.answers)}")
        wanted = {"shown": (n,), "seconds": (n,), "strength": (n,), "words": (items, 2), "policy": (items, 2)}
        wanted |= {"gold": (items,), "dimension": (items,), "comparison": (items,)}
        columns = (self.shown, self.seconds, self.strength, self.words, self.policy, self.gold, self.dimension, self.comparison)
        for (name, shape), column in zip(wanted.items(), columns, strict=True):
            if column.shape != shape:
                raise DataError(f"vote table: {name} must have shape {shape}, got {column.shape}")

    @classmethod
    def of(
        cls, votes: Votes, shown: Ints | None = None, seconds: Floats | None = None, words: Floats | None = None,
        policy: Ints | None = None, policies: tuple[str, ...] = (),
    ) -> VoteTable:  # fmt: skip
        """Make a table on one dimension from the columns that are known."""
        n, items = len(votes), len(votes.items)
        return cls(
            votes,
            np.full(n, -1) if shown is None else shown,
            np.full(n, np.nan) if seconds is None else seconds,
            np.full((items, 2), np.nan) if words is None else words,
            np.full((items, 2), -1) if policy is None else policy,
            np.full(items, -1),
            np.zeros(items, dtype=np.int64),
            np.full(n, np.nan),
            np.arange(items),
            policies,
        )

    @classmethod
    def of_judgments(
        cls,
        judgments: Iterable[Judgment],
        comparisons: Iterable[Comparison] = (),
        gold: Mapping[str, Ranking] | None = None,
        tested: str | None = None,
    ) -> VoteTable:
        """Make the table of judgments. A rater's last judgment of a pair counts.

        Args:
            judgments: the judgments of all raters.
            comparisons: what they were shown, where it is known. Lengths and policies come from these.
            gold: the right rankings of hidden tests, by comparison.
            tested: the dimension of the tests; judgments of tests on others are left out. None takes all dimensions.
        """
        # Only plain values of each judgment are kept: a hundred thousand objects would keep the garbage collector busy.
        last: dict[tuple[str, str], tuple[int, int, float, float]] = {}
        pairs: dict[str, tuple[str, str, int, int]] = {}
        for pair in pairs_of(judgments):
            judgment = pair.judgment
            if tested not in (None, judgment.dimension) and judgment.comparison in (gold or {}):
                continue
            last[pair.item, judgment.rater] = pair.answer, pair.shown, _known(judgment.seconds), _known(judgment.strength)
            pairs.setdefault(pair.item, (judgment.comparison, judgment.dimension, pair.first, pair.second))
        votes = Votes.of((item, rater, answer) for (item, rater), (answer, *_) in last.items())
        dimensions = tuple(sorted({dimension for _, dimension, _, _ in pairs.values()})) or ("overall",)
        by_name = {comparison.id: comparison for comparison in comparisons}
        policies = tuple(sorted({side.policy for comparison in by_name.values() for side in comparison.completions if side.policy}))
        number = {name: k for k, name in enumerate(policies)}
        words, policy, right = np.full((len(pairs), 2), math.nan), np.full((len(pairs), 2), -1), np.full(len(pairs), -1)
        for k, (name, _, first, second) in enumerate(pairs.values()):
            comparison, answer = by_name.get(name), (gold or {}).get(name)
            if comparison is not None:
                sides = comparison.completions[first], comparison.completions[second]
                words[k] = [len(side.text.split()) for side in sides]
                policy[k] = [number.get(side.policy, -1) for side in sides]
            if answer is not None:
                tiers = {completion: tier for tier, together in enumerate(answer) for completion in together}
                right[k] = 1 + (tiers[first] > tiers[second]) - (tiers[first] < tiers[second])
        together = {name: k for k, name in enumerate(dict.fromkeys(name for name, *_ in pairs.values()))}
        comparison_of = np.array([together[name] for name, *_ in pairs.values()], dtype=np.int64)
        _, side, seconds, strength = zip(*last.values(), strict=True) if last else ((), (), (), ())
        dimension_of = np.array([dimensions.index(dimension) for _, dimension, _, _ in pairs.values()], dtype=np.int64)
        table = cls.of(votes, np.array(side, dtype=np.int64), np.array(seconds, dtype=np.float64), words, policy, policies)
        graded = np.where(votes.answer == 1, 0.0, np.array(strength, dtype=np.float64))
        return replace(table, gold=right, dimension=dimension_of, dimensions=dimensions, strength=graded, comparison=comparison_of)

    def without_tests(self) -> VoteTable:
        """Leave out the votes on hidden tests. Items, raters and their numbers stay."""
        is_asked = self.gold[self.votes.item] < 0
        if is_asked.all():
            return self
        votes = self.votes.selected(is_asked)
        return replace(self, votes=votes, shown=self.shown[is_asked], seconds=self.seconds[is_asked], strength=self.strength[is_asked])

    def with_words(self, words: Floats) -> VoteTable:
        """Return the table with these lengths (items, 2)."""
        return replace(self, words=words)

    def with_comparisons(self, comparison: Ints) -> VoteTable:
        """Return the table with these numbers of comparisons (items,)."""
        return replace(self, comparison=comparison)

    def with_dimensions(self, dimension: Ints, dimensions: tuple[str, ...]) -> VoteTable:
        """Return the table with these numbers of dimensions (items,) and their names."""
        return replace(self, dimension=dimension, dimensions=dimensions)


def _known(number: float | None) -> float:
    return math.nan if number is None else number

"""Votes on pairs with what is known beside them: sides shown, time, lengths, policies, hidden tests. The analysis of raters reads it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from palate.agreement.estimates import Flags, Floats, Ints
from palate.agreement.votes import CRITERION_ANSWERS, PAIR_ANSWERS, RULE_ANSWERS, Votes, pairs_of
from palate.core import UNKNOWN_RATER, Comparison, DataError, Judgment, is_anonymous

Ranking = tuple[tuple[int, ...], ...]
"""Completions of a comparison by number, in tiers, best first."""


@dataclass(frozen=True, slots=True, eq=False)
class EarlierVotes:
    """Votes on pairs that their raters answered again later, and what they said the next time. Each array is (m,).

    Attributes:
        item: numbers of items.
        rater: numbers of raters.
        answer: numbers of answers.
        shown: as in `VoteTable`.
        next_answer: numbers of the same rater's next answers to the item.
        next_shown: as in `VoteTable`, for the next answers.
    """

    item: Ints
    rater: Ints
    answer: Ints
    shown: Ints
    next_answer: Ints
    next_shown: Ints

    @classmethod
    def of(cls, rows: Iterable[tuple[int, ...]]) -> EarlierVotes:
        """Make the votes from rows of these six numbers."""
        return cls(*np.array(list(rows), dtype=np.int64).reshape(-1, 6).T)

    def selected(self, flags: Flags) -> EarlierVotes:
        """Return the votes where `flags` (m,) is true."""
        columns = (self.item, self.rater, self.answer, self.shown, self.next_answer, self.next_shown)
        return EarlierVotes(*(column[flags] for column in columns))


NO_EARLIER = EarlierVotes.of(())


@dataclass(frozen=True, slots=True, eq=False)
class VoteTable:
    """Votes on pairs, rules or criteria, and columns beside them. An unknown value is -1, or NaN for real numbers.

    Attributes:
        votes: the votes; answers are first, tie, second, or broken, kept, or unmet, met.
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
        anonymous: numbers of the raters of whom nobody knows whether they are one person.
        earlier: votes that their raters gave before they answered the same item again. They count in the biases and in self-consistency.
        last: (n,) for a vote that is the mean of several answers, the last of these; -1 for others. None where no vote is a mean. A rater
            who gives probabilities, such as a judge who saw both orders, has one vote, the side that the mean favours. Biases count all.
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
    anonymous: frozenset[int] = frozenset()
    earlier: EarlierVotes = NO_EARLIER
    last: Ints | None = None

    def __post_init__(self) -> None:
        """Checks the shapes."""
        n, items = len(self.votes), len(self.votes.items)
        kinds = (PAIR_ANSWERS, RULE_ANSWERS, CRITERION_ANSWERS)
        if self.votes.answers not in kinds:
            wanted_answers = " or ".join(map(", ".join, kinds))
            raise DataError(f"a table of votes must have the answers {wanted_answers}, got {', '.join(self.votes.answers)}")
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
        together: Mapping[str, str] | None = None,
    ) -> VoteTable:
        """Make the table of judgments. A rater's last judgment of a pair counts, and those before it are `earlier`.

        Of a rater who gives probabilities the mean of all counts: a judge who is shown a pair in both orders has one opinion of it.
        Judgments of raters without a name (`is_anonymous`) all count, because nobody knows whether two of them come from one person.

        Args:
            judgments: the judgments of all raters.
            comparisons: what they were shown, where it is known. Lengths and policies come from these.
            gold: the right rankings of hidden tests, by comparison.
            tested: the dimension of the tests; judgments of tests on others are left out. None takes all dimensions.
            together: for comparisons that hang together, such as the pairs of a ranking, the comparison that they count as.
        """
        # Only plain values of each judgment are kept: a hundred thousand objects would keep the garbage collector busy.
        last: dict[tuple[str, str], tuple[int, int, float, float]] = {}
        given: dict[tuple[str, str], list[float]] = {}
        again: list[tuple[str, str, int, int, int, int]] = []
        pairs: dict[str, tuple[str, str, int, int]] = {}
        for pair in pairs_of(judgments):
            judgment = pair.judgment
            if tested not in (None, judgment.dimension) and judgment.comparison in (gold or {}):
                continue
            said, shown, rater = pair.answer, pair.shown, judgment.rater
            if (pair.item, rater) in last:
                if is_anonymous(rater):
                    rater = _unused(pair.item, last)
                else:
                    again.append((pair.item, rater, *last[pair.item, rater][:2], said, shown))
            last[pair.item, rater] = said, shown, _known(judgment.seconds), 0.0 if said == 1 else _known(judgment.strength)
            if shown >= 0 and (probability := judgment.first_probability(pair.first, pair.second)) is not None:
                given.setdefault((pair.item, rater), []).append(probability)
            pairs.setdefault(pair.item, (judgment.comparison, judgment.dimension, pair.first, pair.second))
        votes = Votes.of((item, rater, answer) for (item, rater), (answer, *_) in last.items())
        dimensions = tuple(sorted({dimension for _, dimension, _, _ in pairs.values()})) or ("overall",)
        by_name = {comparison.id: comparison for comparison in comparisons}
        policies = tuple(sorted({side.policy for comparison in by_name.values() for side in comparison.completions if side.policy}))
        number = {name: k for k, name in enumerate(policies)}
        words, policy, right = np.full((len(pairs), 2), math.nan), np.full((len(pairs), 2), -1), np.full(len(pairs), -1)
        for k, (name, _, first, second) in enumerate(pairs.values()):
            if (comparison := by_name.get(name)) is not None:
                sides = comparison.completions[first], comparison.completions[second]
                if any(side.text for side in sides):  # without texts, labels alone
                    words[k] = [len(side.text.split()) for side in sides]
                policy[k] = [number.get(side.policy, -1) for side in sides]
            if gold is not None and name in gold:
                right[k] = _right_answer(gold[name], first, second)
        comparison_of = numbers_of([(together or {}).get(name, name) for name, *_ in pairs.values()])
        _, side, seconds, strength = zip(*last.values(), strict=True) if last else ((), (), (), ())
        dimension_of = np.array([dimensions.index(dimension) for _, dimension, _, _ in pairs.values()], dtype=np.int64)
        table = cls.of(votes, np.array(side, dtype=np.int64), np.array(seconds, dtype=np.float64), words, policy, policies)
        known = np.array(strength, dtype=np.float64)
        table = replace(table, gold=right, dimension=dimension_of, dimensions=dimensions, strength=known, comparison=comparison_of)
        return table._with_repeats(again)._with_means([given.get(key, ()) for key in last])

    @classmethod
    def of_verdicts(cls, rows: Iterable[tuple[str, str, bool, float | None]], gold: Mapping[str, bool] | None = None) -> VoteTable:
        """Make the table of answers to rules, from rows (item, rater, whether the rule is broken, seconds). A rater's last answer counts.

        Args:
            rows: the answers.
            gold: the right answers of hidden tests, by item.
        """
        last: dict[tuple[str, str], tuple[int, float]] = {}
        again: list[tuple[str, str, int, int, int, int]] = []
        for item, rater, is_broken, seconds in rows:
            code = 0 if is_broken else 1
            who_said = rater
            if (item, rater) in last:
                if is_anonymous(rater):
                    who_said = _unused(item, last)
                else:
                    again.append((item, rater, last[item, rater][0], -1, code, -1))
            last[item, who_said] = code, _known(seconds)
        votes = Votes.of(((item, rater, code) for (item, rater), (code, _) in last.items()), RULE_ANSWERS)
        right = np.array([-1 if (gold or {}).get(item) is None else int(not (gold or {})[item]) for item in votes.items], dtype=np.int64)
        table = cls.of(votes, seconds=np.array([seconds for _, seconds in last.values()], dtype=np.float64))
        return replace(table, gold=right)._with_repeats(again)

    def _with_repeats(self, again: Iterable[tuple[str, str, int, int, int, int]]) -> VoteTable:
        """Return the table with its raters without a name, and the earlier votes in rows as of `EarlierVotes`, by names."""
        place, who = ({name: k for k, name in enumerate(names)} for names in (self.votes.items, self.votes.raters))
        earlier = EarlierVotes.of((place[item], who[rater], *codes) for item, rater, *codes in again)
        return replace(self, anonymous=frozenset(k for k, name in enumerate(self.votes.raters) if is_anonymous(name)), earlier=earlier)

    def _with_means(self, given: Sequence[Sequence[float]]) -> VoteTable:
        """Return the table with one opinion of each rater who gave an item several probabilities of its first completion; `given` has n."""
        is_mean = np.array([len(own) > 1 for own in given], dtype=np.bool_)
        if not is_mean.any():
            return self
        told = self.votes.answer
        opinions = [_opinion(own) if several else answer for own, several, answer in zip(given, is_mean, told.tolist(), strict=True)]
        votes = replace(self.votes, answer=np.array(opinions, dtype=np.int64))
        return replace(self, votes=votes, last=np.where(is_mean, told, -1), strength=np.where(votes.is_tie, 0.0, self.strength))

    def without_tests(self) -> VoteTable:
        """Leave out the votes on hidden tests. Items, raters and their numbers stay."""
        is_asked = self.gold[self.votes.item] < 0
        if is_asked.all():
            return self
        votes, earlier = self.votes.selected(is_asked), self.earlier.selected(self.gold[self.earlier.item] < 0)
        seconds, strength, shown = self.seconds[is_asked], self.strength[is_asked], self.shown[is_asked]
        last = None if self.last is None else self.last[is_asked]
        return replace(self, votes=votes, earlier=earlier, shown=shown, seconds=seconds, strength=strength, last=last)

    def with_earlier(self) -> VoteTable:
        """Return the table with each answer as a vote, the earlier ones too, for what is about answers and not about raters who agree."""
        old, votes = self.earlier, self.votes
        if self.last is not None:
            votes = replace(votes, answer=np.where(self.last >= 0, self.last, votes.answer))
        if not old.item.size:
            return self
        columns = ((votes.item, old.item), (votes.rater, old.rater), (votes.answer, old.answer))
        item, rater, answer = (np.concatenate(parts) for parts in columns)
        unknown = np.full(old.item.size, np.nan)
        return replace(
            self,
            votes=replace(votes, item=item, rater=rater, answer=answer),
            shown=np.concatenate([self.shown, old.shown]),
            seconds=np.concatenate([self.seconds, unknown]),
            strength=np.concatenate([self.strength, unknown]),
            earlier=NO_EARLIER,
            last=None,
        )

    @property
    def saw_all_orders(self) -> bool:
        """Whether every rater of every item saw each of both sides first equally often, so that a habit for a place cancels.

        It does so where a rater's answers are averaged. Of a person who answers again the last answer counts, and nothing cancels.
        """
        if self.last is None:
            return False
        every = self.with_earlier()
        cell = every.votes.item * max(len(every.votes.raters), 1) + every.votes.rater
        return bool(cell.size and (every.shown >= 0).all() and not np.bincount(cell, 1 - 2 * every.shown).any())

    @property
    def is_named(self) -> Flags:
        """(n,) whether the rater of each vote has a name."""
        return ~np.isin(self.votes.rater, list(self.anonymous))

    def with_words(self, words: Floats) -> VoteTable:
        """Return the table with these lengths (items, 2)."""
        return replace(self, words=words)

    def with_comparisons(self, comparison: Ints) -> VoteTable:
        """Return the table with these numbers of comparisons (items,)."""
        return replace(self, comparison=comparison)

    def with_dimensions(self, dimension: Ints, dimensions: tuple[str, ...]) -> VoteTable:
        """Return the table with these numbers of dimensions (items,) and their names."""
        return replace(self, dimension=dimension, dimensions=dimensions)


def _unused(item: str, last: Mapping[tuple[str, str], object]) -> str:
    """Return a name for a rater without one who answers an item that another such rater answered."""
    return next(name for k in itertools.count(1) if (item, name := f"{UNKNOWN_RATER}-{k}") not in last)


def numbers_of(names: Sequence[str]) -> Ints:
    """Return a number for each name, the same for equal names, in the order in which they come."""
    number = {name: k for k, name in enumerate(dict.fromkeys(names))}
    return np.array([number[name] for name in names], dtype=np.int64)


def _right_answer(ranking: Ranking, first: int, second: int) -> int:
    """Return the answer to a pair that a ranking gives."""
    tiers = {completion: tier for tier, alike in enumerate(ranking) for completion in alike}
    return 1 + (tiers[first] > tiers[second]) - (tiers[first] < tiers[second])


def _opinion(given: Sequence[float]) -> int:
    """Return the answer that the mean of several probabilities of the first favours."""
    gap = math.fsum(given) / len(given) - 0.5
    return 1 if abs(gap) < 1e-9 else 0 if gap > 0 else 2


def _known(number: float | None) -> float:
    return math.nan if number is None else number

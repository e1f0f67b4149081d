"""The votes of raters as codes. Every statistic of raters is computed from them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from palate.agreement.estimates import Flags, Floats, Ints
from palate.core import DataError, Judgment

PAIR_ANSWERS = ("first", "tie", "second")
"""Answers to a pair, in order of preference for its first completion (not for what was shown first)."""

RULE_ANSWERS = ("broken", "kept")
"""Answers to the question whether a completion breaks a rule."""

CRITERION_ANSWERS = ("unmet", "met")
"""Answers to the question whether a completion meets a criterion of a rubric."""

_MIRROR = np.array([2, 1, 0])


@dataclass(frozen=True, slots=True, eq=False)
class Votes:
    """Answers of raters to items as codes; no rater answers an item twice.

    Attributes:
        item: (n,) numbers of items.
        rater: (n,) numbers of raters.
        answer: (n,) numbers of answers.
        items: names of the items, by number.
        raters: names of the raters, by number.
        answers: names of the answers, by number, in their order where they have one.
    """

    item: Ints
    rater: Ints
    answer: Ints
    items: tuple[str, ...]
    raters: tuple[str, ...]
    answers: tuple[str, ...] = PAIR_ANSWERS

    def __post_init__(self) -> None:
        """Checks shapes and ranges."""
        names = {"item": self.items, "rater": self.raters, "answer": self.answers}
        for name, codes in (("item", self.item), ("rater", self.rater), ("answer", self.answer)):
            if codes.shape != self.item.shape or codes.ndim != 1:
                raise DataError(f"votes: item, rater and answer need one length, got {name} of shape {codes.shape}")
            if codes.size and not (codes.min() >= 0 and codes.max() < len(names[name])):
                raise DataError(f"votes: {name} codes must lie in 0..{len(names[name]) - 1}, got {codes.min()}..{codes.max()}")

    def __len__(self) -> int:
        """Number of votes."""
        return int(self.item.size)

    @classmethod
    def of(cls, rows: Iterable[tuple[str, str, int]], answers: tuple[str, ...] = PAIR_ANSWERS) -> Votes:
        """Make the votes from rows (item, rater, answer code). A rater's last answer to an item counts."""
        last = {(item, rater): answer for item, rater, answer in rows}
        items = {name: k for k, name in enumerate(dict.fromkeys(item for item, _ in last))}
        raters = {name: k for k, name in enumerate(dict.fromkeys(rater for _, rater in last))}
        codes = np.array([(items[i], raters[r], a) for (i, r), a in last.items()], dtype=np.int64).reshape(-1, 3)
        item, rater, answer = np.ascontiguousarray(codes.T)
        return cls(item, rater, answer, tuple(items), tuple(raters), answers)

    @classmethod
    def of_judgments(cls, judgments: Iterable[Judgment]) -> Votes:
        """Make the votes on pairs: items `comparison/dimension`, or `comparison/dimension/i-j` for each pair of a longer ranking."""
        return cls.of((one.item, one.judgment.rater, one.answer) for one in pairs_of(judgments))

    @property
    def mirror(self) -> Ints | None:
        """(answers,) what each answer becomes when an item's two completions change their names; None for answers with other meanings.

        Which completion is called the first is a matter of the file, so no figure of pairs may depend on it.
        """
        return _MIRROR if self.answers == PAIR_ANSWERS else None

    @property
    def is_tie(self) -> Flags:
        """(n,) whether each answer is a tie."""
        return np.asarray(self.answer == (1 if self.answers == PAIR_ANSWERS else -1))

    def counts(self) -> Floats:
        """(items, answers) number of votes."""
        return count_pairs(self.item, self.answer, (len(self.items), len(self.answers)))

    def selected(self, flags: Flags) -> Votes:
        """Return the votes where `flags` (n,) is true. Names and numbers stay."""
        return Votes(self.item[flags], self.rater[flags], self.answer[flags], self.items, self.raters, self.answers)


def mirrored(table: Floats, mirror: Ints | None, axes: tuple[int, ...]) -> Floats:
    """Return the mean of a table and of the same with the answers along these axes renamed by `mirror`; the table itself without one."""
    if mirror is None:
        return table
    turned = table
    for axis in axes:
        turned = np.take(turned, mirror, axis=axis)
    return np.asarray((table + turned) / 2)


def count_pairs(rows: Ints, columns: Ints, shape: tuple[int, int], weights: Floats | None = None) -> Floats:
    """Return (rows, columns) how often each pair of codes occurs, or its summed weight."""
    counted = np.bincount(rows * shape[1] + columns, weights=weights, minlength=shape[0] * shape[1])
    return counted.reshape(shape).astype(np.float64, copy=False)


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """What a judgment says about completions number `first` and `second` of its comparison."""

    judgment: Judgment
    item: str
    first: int
    second: int
    answer: int
    """0 when the first is better, 1 for a tie, 2 when the second is better, whatever order they were shown in."""

    @property
    def shown(self) -> int:
        """0 when the first of the two was shown before the second, 1 when after it, -1 when the order shown is not known."""
        order = self.judgment.order
        return -1 if order is None else int(order.index(self.first) > order.index(self.second))


def pairs_of(judgments: Iterable[Judgment]) -> Iterator[JudgedPair]:
    """Yield the pairs that each judgment ranks. Reviewers' decisions are not votes and are left out.

    Raises:
        DataError: a ranking does not hold each place once, or a known order does not hold each completion once.
    """
    for judgment in judgments:
        if judgment.is_decision:
            continue
        places = sorted(place for tier in judgment.ranking for place in tier)
        k = len(places if judgment.order is None else judgment.order)
        if k < 2 or places != list(range(k)) or (judgment.order is not None and sorted(judgment.order) != places):
            raise DataError(
                f"judgment of {judgment.comparison} by {judgment.rater}: the ranking {judgment.ranking} must hold each of the {k} places "
                f"shown once, and the order {judgment.order} each completion, two or more"
            )
        item, tiers = f"{judgment.comparison}/{judgment.dimension}", _tier_of(judgment)
        for i, j in itertools.combinations(range(k), 2):
            yield JudgedPair(judgment, item if k == 2 else f"{item}/{i}-{j}", i, j, _answer(tiers, i, j))


def pair_answer(judgment: Judgment, first: int = 0, second: int = 1) -> int:
    """Return 0 when completion number `first` is ranked above `second`, 2 when below, 1 in one tier, whatever order they were shown in."""
    return _answer(_tier_of(judgment), first, second)


def _tier_of(judgment: Judgment) -> dict[int, int]:
    """Return the tier of each completion by its number; 0 is the best."""
    return {number: tier for tier, numbers in enumerate(judgment.tiers) for number in numbers}


def _answer(tiers: dict[int, int], first: int, second: int) -> int:
    return 1 + (tiers[first] > tiers[second]) - (tiers[first] < tiers[second])

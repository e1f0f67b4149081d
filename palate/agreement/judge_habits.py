"""Habits of a judge: verdicts that change with the order, and a taste for a side, for length or for its own model's style.

A taste counts against the judge as far as people do not have it. docs/methods/judge-cards.md has the formulas.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from palate.agreement.advice import SWAY, nearest
from palate.agreement.bias import UNKNOWN, length_bias, side_bias
from palate.agreement.estimates import Z95, Estimate, Flags, Floats, Ints, clustered_share, from_normal
from palate.agreement.judge_answers import JudgeAnswers
from palate.agreement.paired_logistic import sigmoid

HABITS = 3
"""Habits that a card may name: side, length, own style."""

Z_TOGETHER = 2.3939797998185104
"""Two-sided point of the standard normal distribution for 95 % over `HABITS` intervals together (Bonferroni)."""

RESAMPLES = 1000

MIN_LABELS = 50
"""A judge is calibrated on this many pairs that people judged, at least. A taste beyond people needs as many with two votes of people."""

MATTERS = SWAY - 0.5
"""A taste is named that moves an ordinary even pair by this share, at least."""


@dataclass(frozen=True, slots=True)
class Flips:
    """How often a verdict changes when the sides are exchanged.

    Attributes:
        share: share of the pairs that were judged in both orders whose two verdicts differ. In a pair of a ranking that was made in several
            orders, the two verdicts are the means where one of both stood before the other, and where it stood after it.
        to_first: pairs on which the judge preferred what was shown first both times.
        to_second: pairs on which it preferred what was shown second both times.
        to_tie: pairs on which one of the two verdicts was a tie.
        unknown: pairs of which the file only says that the verdicts differed.
    """

    share: Estimate
    to_first: int
    to_second: int
    to_tie: int
    unknown: int


@dataclass(frozen=True, slots=True)
class Habit:
    """A taste of the judge, and of people on the same pairs.

    Attributes:
        judge: the judge's own in log-odds, as `palate agreement` measures it. Not known for the style of its own model.
        people: people's, measured alike.
        beyond: the judge's beyond people's. For the side, in log-odds; for length and style, the share by which it moves the judge's label.
        unit: size of an ordinary case: 1, or one standard deviation of the difference in length, in ten words.
    """

    judge: Estimate
    people: Estimate
    beyond: Estimate
    unit: float = 1.0


@dataclass(frozen=True, slots=True)
class JudgeHabits:
    """The habits of a judge. Those of `length` are for ten words more.

    Attributes:
        flips: verdicts that change when the sides are exchanged; None where no pair was judged in both orders.
        side: for the completion shown first.
        length: for the longer completion.
        own: for completions that the judge's own model, or one of its family, wrote.
        policies: the policies that count as its own.
    """

    flips: Flips | None
    side: Habit
    length: Habit
    own: Habit
    policies: tuple[str, ...]

    @property
    def found(self) -> tuple[str, ...]:
        """Names of the habits that are there, and large enough to matter: `side`, `length`, `own`.

        The side counts whatever people do, because a verdict should not depend on it. Length and style count beyond people.
        """
        tastes = {"length": self.length, "own": self.own}
        beyond = [name for name, one in tastes.items() if is_sure(one.beyond) and abs(one.beyond.value) * one.unit >= MATTERS]
        side = self.side.judge
        return (*(("side",) if is_sure(side) and abs(sigmoid(np.array(nearest(side))) - 0.5) >= MATTERS else ()), *beyond)


_UNKNOWN_HABIT = Habit(UNKNOWN, UNKNOWN, UNKNOWN)

NO_HABITS = JudgeHabits(None, _UNKNOWN_HABIT, _UNKNOWN_HABIT, _UNKNOWN_HABIT, ())
"""The habits of a judge that compares nothing."""


def is_sure(taste: Estimate) -> bool:
    """Return whether a taste excludes 0 in intervals that hold for all habits together."""
    return taste.n > 0 and taste.excludes_zero and (math.isnan(taste.se) or abs(taste.value) > Z_TOGETHER * taste.se)


def habits_of(table: JudgeAnswers, rng: np.random.Generator) -> JudgeHabits:
    """Measure the habits of a judge. `rng` draws the bootstrap's samples."""
    labelled = table.labelled
    more = (table.words[:, 0] - table.words[:, 1]) / 10
    spread = float(np.std(more[labelled & ~np.isnan(more)])) if (labelled & ~np.isnan(more)).any() else 1.0
    side, length = (
        [habit(votes) for votes in (table.judge_votes, table.people_votes)] for habit in (partial(side_bias, rng=rng), length_bias)
    )
    judge_side, people_side = (bias.logit for bias in side)
    beyond = _beyond_people(table, more, rng)
    return JudgeHabits(
        flips=flips(table),
        side=Habit(judge_side, people_side, _difference(judge_side, people_side)),
        length=Habit(length[0].logit, length[1].logit, beyond[0], spread),
        own=Habit(UNKNOWN, UNKNOWN, beyond[1]),
        policies=table.policies,
    )


def flips(table: JudgeAnswers) -> Flips | None:
    """Return how often the judge's verdict on a pair changes with the order; None where none was asked in both."""
    judge = table.judge
    raters = int(judge.rater.max(initial=0)) + 1
    first, second = (_verdicts(judge.pair * raters + judge.rater, judge.answer, judge.shown == side) for side in (0, 1))
    both = [(number // raters, first[number], second[number]) for number in first if number in second]
    summed = judge.consistent >= 0
    pair = np.concatenate([np.array([pair for pair, _, _ in both], dtype=np.int64), judge.pair[summed]])
    changed = np.concatenate([np.array([one != other for _, one, other in both], dtype=bool), judge.consistent[summed] == 0])
    if not pair.size:
        return None
    kinds = Counter((int(one), int(other)) for _, one, other in both)
    ties = sum(count for (one, other), count in kinds.items() if one != other and 1 in (one, other))
    unknown = int((judge.consistent == 0).sum())
    share = clustered_share(changed.astype(np.float64), table.cluster[pair])
    return Flips(replace(share, n=int(pair.size)), kinds[0, 2], kinds[2, 0], ties, unknown)


def _verdicts(cell: Ints, answer: Ints, flags: Flags) -> dict[int, int]:
    """Return by cell the answer that lies on the mean of the answers where `flags` (n,) is true.

    A cell is a pair and a rater. Rankings in several orders give it several answers in which the same of both stood first.
    """
    cells, number = np.unique(cell[flags], return_inverse=True)
    verdicts = 1 + np.sign(np.bincount(number, answer[flags] - 1.0, cells.size)).astype(np.int64)
    return dict(zip(cells.tolist(), verdicts.tolist(), strict=True))


def _difference(one: Estimate, other: Estimate) -> Estimate:
    """Return the difference of two estimates, as if they were independent; on common pairs the true error is smaller."""
    if not one.n or not other.n or math.isinf(one.value) or math.isinf(other.value):
        return UNKNOWN
    return from_normal(one.value - other.value, math.hypot(one.se, other.se), min(one.n, other.n))


def _beyond_people(table: JudgeAnswers, more: Floats, rng: np.random.Generator) -> tuple[Estimate, Estimate]:
    """Return how far ten words more, and the judge's own style, move its answers beyond what people say: in shares, 0.05 is 50 to 55.

    The judge's label of a pair is c (v - 1/2) + t x + rest: v is the share of all people who would choose the first completion, x the
    difference of the sides, and c says how sharply the judge sees what people see. The votes at hand are v with noise, so a plain
    regression on them would give the judge a taste for everything that goes with quality. Here the noise is taken out: two votes on one
    pair have independent noise, so the mean of their product is v squared. That needs pairs with two votes. By Cramer's rule a taste
    is a ratio of two determinants of moments, whose joint error comes from clusters that are drawn again.
    """
    people, label = table.people, table.label - 0.5
    many = np.bincount(people.pair, minlength=table.pairs)
    used = (many > 1) & ~np.isnan(label)
    half = (1 - people.answer) / 2
    sums, squares = (np.bincount(people.pair, values, table.pairs)[used] for values in (half, half**2))
    n = many[used]
    columns = {"side": _side(table)[used], "length": more[used], "own": table.own[used]}
    columns = {name: np.nan_to_num(column) for name, column in columns.items() if np.nan_to_num(column).any()}
    if int(used.sum()) < MIN_LABELS or not columns.keys() & {"length", "own"}:
        return UNKNOWN, UNKNOWN
    # Moments of (v, x, ...) with each other and with the label, summed by cluster.
    design = np.stack([sums / n, *columns.values()], axis=1)
    products = design[:, :, None] * design[:, None, :]
    products[:, 0, 0] = (sums**2 - squares) / (n * (n - 1))
    rows = np.concatenate([products.reshape(len(design), -1), design * label[used][:, None]], axis=1)
    _, number = np.unique(table.cluster[used], return_inverse=True)
    totals = np.stack([np.bincount(number, row) for row in rows.T], axis=1)
    clusters, k = len(totals), design.shape[1]
    drawn = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=RESAMPLES)
    moments = np.concatenate([totals.sum(0, keepdims=True), (drawn @ totals).astype(np.float64)]) / clusters
    left, right = moments[:, : k * k].reshape(-1, k, k), moments[:, k * k :]
    whole, found = np.linalg.det(left), {}
    for j, name in enumerate(columns, start=1):
        replaced = left.copy()
        replaced[:, :, j] = right
        found[name] = _ratio(np.linalg.det(replaced), whole, int((columns[name] != 0).sum()))
    return found.get("length", UNKNOWN), found.get("own", UNKNOWN)


def _ratio(top: Floats, bottom: Floats, n: int) -> Estimate:
    """Return top[0] / bottom[0] with Fieller's interval, from their draws top[1:] and bottom[1:].

    Where the bottom cannot be told from 0 the interval has no ends. Value / error is the distance of the top from 0 in its own errors.
    Source: Fieller 1954.
    """
    (var_top, both), (_, var_bottom) = np.cov(top[1:], bottom[1:]).tolist()
    one, other = float(top[0]), float(bottom[0])
    value, error = one / other, math.sqrt(var_top) / abs(other)
    a, b, c = other**2 - Z95**2 * var_bottom, one * other - Z95**2 * both, one**2 - Z95**2 * var_top
    if a <= 0:
        return Estimate(value, error, -math.inf, math.inf, n)
    half = math.sqrt(max(b * b - a * c, 0.0)) / a
    return Estimate(value, error, b / a - half, b / a + half, n)


def _side(table: JudgeAnswers) -> Floats:
    """Return for each pair 1 where its first completion was shown first to the judge, -1 where second, and 0 for both or unknown."""
    judge = table.judge
    signs = np.where(judge.shown < 0, 0.0, 1.0 - 2 * judge.shown)
    return np.asarray(np.bincount(judge.pair, signs, table.pairs) / np.maximum(np.bincount(judge.pair, minlength=table.pairs), 1))

"""How often a judge says what people say, beside rules that read nothing and beside people among themselves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from palate.agreement.estimates import Estimate, Flags, Floats, Ints, at_edge, from_draws, wilson
from palate.agreement.judge_answers import JudgeAnswers
from palate.agreement.votes import count_pairs

RESAMPLES = 1000
_CELLS = 4_000_000
"""Numbers that are drawn at once."""

NOT_MEASURED = Estimate(math.nan, math.nan, math.nan, math.nan, 0)

CONSTANTS = ("always what is shown first", "always a tie", "always what is shown second")
"""Judges that read nothing. In both orders, an answer for one side twice is a tie."""


@dataclass(frozen=True, slots=True)
class WithPeople:
    """How often a rule says what one person says: with ties as an answer, and over votes without ties. `n` counts clusters."""

    with_ties: Estimate
    decided: Estimate


@dataclass(frozen=True, slots=True)
class JudgeAgreement:
    """Agreement with people on pairs that both judged.

    Attributes:
        pairs: number of pairs that the judge and at least one person judged.
        votes: number of people's votes on them.
        judge: the judge against one person.
        majority: the judge against the majority of two people or more; `decided` leaves out pairs without one.
        people: one person against another, which is what a judge as good as a person reaches.
        constant: the best of `CONSTANTS` against one person. Where both orders were asked, a coin stands for it in `decided`.
        constant_answer: which one that is.
        longer: the rule that the longer completion is better, against one person.
        over_constant: the judge's agreement less that of the constant answer, over votes without ties, on the same votes.
        over_longer: the same, less that of the length rule.
    """

    pairs: int
    votes: int
    judge: WithPeople
    majority: WithPeople
    people: WithPeople
    constant: WithPeople
    constant_answer: str
    longer: WithPeople
    over_constant: Estimate
    over_longer: Estimate


def agreement_with_people(table: JudgeAnswers, rng: np.random.Generator) -> JudgeAgreement:
    """Compare a judge with people. `rng` draws the clusters again: prompts, or pairs where there are too few prompts."""
    verdict, votes = table.verdict, table.people
    votes = votes.selected(verdict[votes.pair] >= 0)
    pair, answer, said = votes.pair, votes.answer, verdict[votes.pair]
    constants = _constants(table)
    best = int(np.argmax([(rule[pair] == answer).mean() if pair.size else 0.0 for rule in constants]))
    longer, has_length = _longer(table.words)
    counts = count_pairs(pair, answer, (table.pairs, 3))
    majority, twice = _majority(counts), counts.sum(1) > 1
    every, decided = np.ones(pair.size, dtype=bool), (answer != 1) & (said != 1)
    gain = _points(said, answer)

    def among(flags: Flags, values: Floats, of_pair: Ints = pair) -> Estimate:
        return clustered_mean(values[flags], table.cluster[of_pair[flags]], rng)

    def both(rule: Ints, flags: Flags) -> WithPeople:
        return WithPeople(among(flags, (rule[pair] == answer).astype(np.float64)), among(flags & decided, _points(rule[pair], answer)))

    same, numbers = (majority == verdict).astype(np.float64), np.arange(table.pairs)
    return JudgeAgreement(
        pairs=int(table.labelled.sum()),
        votes=int(pair.size),
        judge=both(verdict, every),
        majority=WithPeople(among(twice, same, numbers), among(twice & (majority != 1) & (verdict != 1), same, numbers)),
        people=WithPeople(_among_people(counts, table.cluster, rng), _among_people(counts[:, [0, 2]], table.cluster, rng)),
        constant=both(constants[best], every),
        constant_answer=CONSTANTS[best],
        longer=both(longer, has_length[pair]),
        over_constant=among(decided, gain - _points(constants[best][pair], answer)),
        over_longer=among(decided & has_length[pair], gain - _points(longer[pair], answer)),
    )


def clustered_mean(values: Floats, cluster: Ints, rng: np.random.Generator, resamples: int = RESAMPLES) -> Estimate:
    """Return the mean of values (n,) with a percentile interval from clusters (n,) drawn again; `n` counts clusters.

    Where all values are 0, or all are 1, every sample is alike, and the interval is Wilson's for as many clusters.
    """
    if not values.size:
        return NOT_MEASURED
    _, number = np.unique(cluster, return_inverse=True)
    sums = np.stack([np.bincount(number, values), np.bincount(number)], axis=1)
    n, value = len(sums), float(values.mean())
    if (values == 1).all() or not values.any():
        return at_edge(value, *wilson(value * n, n), n)
    draws = [drawn @ sums for drawn in _drawn(n, rng, resamples)]
    totals = np.concatenate(draws)
    return from_draws(value, totals[:, 0] / totals[:, 1], n)


def _drawn(n: int, rng: np.random.Generator, resamples: int) -> Iterator[Floats]:
    """Yield parts of (resamples, n) numbers: how often each cluster is drawn."""
    step = max(1, _CELLS // n)
    for start in range(0, resamples, step):
        yield rng.multinomial(n, np.full(n, 1 / n), size=min(step, resamples - start)).astype(np.float64)


def _points(rule: Ints, answer: Ints) -> Floats:
    """(n,) 1 where a rule gives the answer, 0.5 where the rule is undecided, else 0."""
    return np.where(rule == 1, 0.5, (rule == answer).astype(np.float64))


def _constants(table: JudgeAnswers) -> tuple[Ints, Ints, Ints]:
    """(pairs,) verdicts of `CONSTANTS`, asked in the orders in which the judge was asked; in the file's order where nobody knows those."""
    shown = np.zeros(table.pairs, dtype=np.int64)
    known = table.judge.shown >= 0
    shown[table.judge.pair[known]] = table.judge.shown[known]
    first = np.where(table.both_orders, 1, 2 * shown)
    return first, np.ones_like(first), 2 - first


def _longer(words: Floats) -> tuple[Ints, Flags]:
    """(pairs,) verdicts of the rule that the longer completion is better, and whether the lengths are known."""
    more = words[:, 0] - words[:, 1]
    known = ~np.isnan(more)
    return np.where(known, 1 - np.sign(np.where(known, more, 0)), 1).astype(np.int64), known


def _majority(counts: Floats) -> Ints:
    """(pairs,) the answer on which the mean of the votes (pairs, 3) lies; a tie where they are even."""
    return np.asarray(1 - np.sign(counts[:, 0] - counts[:, 2]), dtype=np.int64)


def _among_people(counts: Floats, cluster: Ints, rng: np.random.Generator) -> Estimate:
    """Return how often one person's vote is that of another person on the same pair, over votes; from counts (pairs, answers)."""
    totals = counts.sum(1)
    pair, answer = np.nonzero(np.where((totals > 1)[:, None], counts, 0))
    votes = counts[pair, answer].astype(np.int64)
    same = (counts[pair, answer] - 1) / (totals[pair] - 1)
    return clustered_mean(np.repeat(same, votes), np.repeat(cluster[pair], votes), rng)

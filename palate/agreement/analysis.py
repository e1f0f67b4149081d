"""The whole analysis of a table of votes, as plain records: what `palate agreement` prints and the dashboard shows."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np

from palate.agreement.alpha import krippendorff_alpha, raw_agreement
from palate.agreement.bias import Bias, length_bias, side_bias
from palate.agreement.curve import LearningCurve
from palate.agreement.estimates import Estimate, json_values
from palate.agreement.kappa import NoiseCeiling, PairKappas, fleiss_kappa, pair_kappas, rater_noise_ceiling
from palate.agreement.ranking_habits import RankingHabits
from palate.agreement.raters import Pace, RaterReport, SelfConsistency, pace, rater_reports, self_consistency
from palate.agreement.vote_table import VoteTable
from palate.agreement.votes import count_pairs
from palate.agreement.win_rates import PolicyMatch, PolicyStrength

_NAMED_PAIRS = 40
"""Pairs of raters that are reported by name, at most."""

_STRENGTHS = 21
"""Different signed strengths that count as answers, at most: ten, their opposites, and ties."""


@dataclass(frozen=True, slots=True)
class NamedKappa:
    """Two raters by name, the items both answered, on what share of them they agree, and Cohen's kappa."""

    one: str
    other: str
    items: int
    agreement: float
    kappa: float


@dataclass(frozen=True, slots=True)
class DimensionReport:
    """Agreement on one dimension: votes, and Krippendorff's alpha (nominal)."""

    dimension: str
    votes: int
    alpha: Estimate


@dataclass(frozen=True, slots=True)
class JudgeFigures:
    """A model among the raters, on one dimension. `palate judge-fit` measures more.

    Attributes:
        judge: its name.
        dimension: the dimension.
        votes: its judgments.
        pairs: pairs that it and at least one person judged.
        with_ties: how often it says what one person says, where a tie is an answer.
        decided: the same, over votes without ties.
        people: how often one person says what another says, without ties, on the same pairs.
        flips: share of pairs whose verdict changes with the order; None where no pair was judged in both.
        habits: what the order does to its rankings; None where it ranked no three completions or more in a known order.
        cost: price of all judgments of the run; None where it is not known, or not this judge's alone.
        is_calibrated: whether the run calibrated its probabilities with the judge's card; None where no run says so, as in a file.
    """

    judge: str
    dimension: str
    votes: int
    pairs: int
    with_ties: Estimate
    decided: Estimate
    people: Estimate
    flips: Estimate | None
    cost: float | None = None
    is_calibrated: bool | None = None
    habits: RankingHabits | None = None


@dataclass(frozen=True, slots=True)
class AgreementReport:
    """What the votes on pairs say about their raters. Hidden tests count in each rater's `gold` and nowhere else.

    Attributes:
        votes: number of votes.
        items: number of pairs (times dimensions) that have votes.
        doubles: comparisons with two votes or more on a pair. All figures of agreement rest on these; the pairs of a ranking are one.
        raters: number of raters with a name.
        unnamed: votes of raters without a name, who may be any number of people.
        names: names of the answers: first, tie, second, or broken, kept.
        answers: votes by answer.
        agreement: share of pairs of raters who say the same, mean over items; ties are an answer.
        agreement_without_ties: the same for votes that are not ties.
        alpha: Krippendorff's, nominal: a tie is an answer like others.
        alpha_ordinal: Krippendorff's, ordinal: a tie is between the sides.
        alpha_interval: Krippendorff's, interval: answers are numbers, and a tie is halfway between the sides.
        alpha_strength: the same for votes with a strength, as signed numbers. None without any, or with more than 21 different ones.
        cohen: Cohen's kappa, mean over pairs of raters weighted by common items.
        fleiss: Fleiss' kappa.
        ceiling: best accuracy of a reward model against one rater, from the agreement without ties.
        side: log-odds in favour of the side shown first.
        length: log-odds in favour of ten words more.
        pace: time spent per vote.
        dimensions: agreement by dimension.
        by_rater: each rater, by votes cast.
        pairs: pairs of raters with most items in common, at most 40.
        repeats: whether raters say the same when they answer a pair again. None if nobody did.
        averaged: votes that are the mean of several answers, of raters who give probabilities.
        saw_all_orders: whether every rater saw each side of each pair first equally often, as judges do. A taste for a side then cancels.
        left_out: what the file holds besides, by reason.
        curve: accuracy against labels, where it was measured.
        judges: models among the raters. Where people voted too, all other figures are of people alone.
        policies: the policies that wrote the completions, the strongest first, by dimension.
        win_rates: each pair of policies that met, by dimension.
    """

    votes: int
    items: int
    doubles: int
    raters: int
    unnamed: int
    names: tuple[str, ...]
    answers: tuple[int, ...]
    agreement: Estimate
    agreement_without_ties: Estimate
    alpha: Estimate
    alpha_ordinal: Estimate
    alpha_interval: Estimate
    alpha_strength: Estimate | None
    cohen: float
    fleiss: float
    ceiling: NoiseCeiling | None
    side: Bias
    length: Bias
    pace: Pace | None
    dimensions: tuple[DimensionReport, ...]
    by_rater: tuple[RaterReport, ...]
    pairs: tuple[NamedKappa, ...]
    repeats: SelfConsistency | None = None
    averaged: int = 0
    saw_all_orders: bool = False
    left_out: tuple[tuple[str, int], ...] = ()
    curve: LearningCurve | None = None
    judges: tuple[JudgeFigures, ...] = ()
    policies: tuple[PolicyStrength, ...] = ()
    win_rates: tuple[PolicyMatch, ...] = ()

    @property
    def ties(self) -> int:
        """Number of votes that are ties."""
        return dict(zip(self.names, self.answers, strict=True)).get("tie", 0)

    @property
    def guessing(self) -> tuple[str, ...]:
        """Names of the raters whose answers cannot be told from guesses."""
        return tuple(rater.rater for rater in self.by_rater if rater.is_guessing)

    def plain(self) -> dict[str, Any]:
        """Return the report as JSON values. Undefined and infinite numbers become None."""
        return cast("dict[str, Any]", json_values({**asdict(self), "guessing": list(self.guessing)}))


def analyse(table: VoteTable, rng: np.random.Generator, curve: LearningCurve | None = None) -> AgreementReport:
    """Analyse a table of votes. `rng` draws the bootstrap's samples, so equal generators give equal reports."""
    whole, table = table, table.without_tests()
    votes, cluster = table.votes, table.comparison
    counts, is_named = votes.counts(), table.is_named
    decided = [k for k, name in enumerate(votes.answers) if name != "tie"]
    swapped = None if votes.mirror is None else np.array([1, 0])
    without = raw_agreement(counts[:, decided], rng, cluster=cluster, mirror=swapped)
    pairs = pair_kappas(votes.selected(is_named), mirror=votes.mirror)
    return AgreementReport(
        votes=len(votes),
        items=int((counts.sum(1) > 0).sum()),
        doubles=int(np.unique(cluster[counts.sum(1) > 1]).size),
        raters=int(np.unique(votes.rater[is_named]).size),
        unnamed=int((~is_named).sum()),
        names=votes.answers,
        answers=tuple(int(n) for n in counts.sum(0)),
        agreement=raw_agreement(counts, rng, cluster=cluster, mirror=votes.mirror),
        agreement_without_ties=without,
        alpha=krippendorff_alpha(counts, rng, cluster=cluster, mirror=votes.mirror),
        alpha_ordinal=krippendorff_alpha(counts, rng, "ordinal", cluster=cluster, mirror=votes.mirror),
        alpha_interval=krippendorff_alpha(counts, rng, "interval", cluster=cluster, mirror=votes.mirror),
        alpha_strength=_of_strengths(table, rng),
        cohen=pairs.mean(),
        fleiss=fleiss_kappa(counts, votes.mirror),
        ceiling=None if math.isnan(without.value) else rater_noise_ceiling(without.value),
        side=side_bias(table, rng),
        length=length_bias(table),
        pace=pace(table.seconds),
        dimensions=_by_dimension(table, counts, rng),
        by_rater=rater_reports(whole),
        pairs=_named(pairs, votes.raters),
        repeats=self_consistency(table),
        averaged=0 if table.last is None else int((table.last >= 0).sum()),
        saw_all_orders=table.saw_all_orders,
        curve=curve,
    )


def _of_strengths(table: VoteTable, rng: np.random.Generator) -> Estimate | None:
    """Return alpha of signed strengths: positive for the first completion, negative for the second, 0 for a tie."""
    votes, known = table.votes, ~np.isnan(table.strength)
    if not (table.strength[known] > 0).any():
        return None
    signed = np.where(votes.answer == 2, -table.strength, table.strength)[known]
    values = np.unique(np.concatenate([signed, -signed]))  # each strength for either side, whichever is called the first
    if values.size > _STRENGTHS:
        return None
    strengths = count_pairs(votes.item[known], np.searchsorted(values, signed), (len(votes.items), values.size))
    mirror = np.arange(values.size)[::-1]
    return krippendorff_alpha(strengths, rng, "interval", values, cluster=table.comparison, mirror=mirror)


def _by_dimension(table: VoteTable, counts: Any, rng: np.random.Generator) -> tuple[DimensionReport, ...]:
    reports = []
    for number, name in enumerate(table.dimensions):
        here = table.dimension == number
        inside = counts[here]
        reports.append(
            DimensionReport(
                name, int(inside.sum()), krippendorff_alpha(inside, rng, cluster=table.comparison[here], mirror=table.votes.mirror)
            )
        )
    return tuple(reports)


def _named(pairs: PairKappas, names: tuple[str, ...]) -> tuple[NamedKappa, ...]:
    columns = (pairs.one, pairs.other, pairs.items, pairs.agreement, pairs.kappa)
    first = zip(*(column[:_NAMED_PAIRS].tolist() for column in columns), strict=True)
    return tuple(NamedKappa(names[one], names[other], items, agreement, kappa) for one, other, items, agreement, kappa in first)

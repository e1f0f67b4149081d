"""The whole analysis of a survey, as plain records: what `palate agreement` prints and the dashboard shows."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np

from palate.agreement.alpha import krippendorff_alpha, raw_agreement
from palate.agreement.bias import Bias, length_bias, side_bias
from palate.agreement.ceiling import NoiseCeiling, rater_noise_ceiling
from palate.agreement.curve import LearningCurve
from palate.agreement.estimates import Estimate
from palate.agreement.kappa import PairKappas, fleiss_kappa, pair_kappas
from palate.agreement.raters import Pace, RaterReport, pace, rater_reports
from palate.agreement.survey import VoteTable
from palate.agreement.votes import count_pairs

_SPELLED = 40
"""Pairs of raters that are reported one by one."""

_GRADES = 21
"""Different strengths, signed, that are an answer each: ten and their opposites, and ties."""


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
class AgreementReport:
    """What the votes on pairs say about their raters. Hidden tests count in `gold` of each rater, and nowhere else.

    Attributes:
        votes: number of votes.
        items: number of pairs (times dimensions) that have any.
        doubles: comparisons with two votes or more on a pair: what all agreement rests on. The pairs of a ranking are one.
        raters: number of raters.
        answers: votes by answer: first, tie, second.
        agreement: share of pairs of raters who say the same, mean over items; ties are an answer.
        agreement_without_ties: the same of the votes that are none.
        alpha: Krippendorff's, nominal (ties an answer like others).
        alpha_ordinal: Krippendorff's, a tie lying between the sides.
        alpha_interval: Krippendorff's, answers as numbers: a tie halfway between the sides.
        alpha_strength: the same of votes with a strength, as signed numbers; None without any, or with more than 21 different ones.
        cohen: Cohen's kappa, mean over pairs of raters weighted by common items.
        fleiss: Fleiss' kappa.
        ceiling: best accuracy of a reward model against one rater, from the agreement without ties.
        side: log-odds for what is shown first.
        length: log-odds for ten words more.
        pace: time spent.
        dimensions: agreement by dimension.
        by_rater: each rater, by votes cast.
        pairs: pairs of raters with most items in common, at most 40.
        curve: accuracy over labels, where any was measured.
    """

    votes: int
    items: int
    doubles: int
    raters: int
    answers: tuple[int, int, int]
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
    curve: LearningCurve | None = None

    @property
    def guessing(self) -> tuple[str, ...]:
        """Names of the raters whose answers cannot be told from guesses."""
        return tuple(rater.rater for rater in self.by_rater if rater.is_guessing)

    def plain(self) -> dict[str, Any]:
        """The report as JSON values; what is undefined or infinite is None."""
        return cast("dict[str, Any]", _plain({**asdict(self), "guessing": list(self.guessing)}))


def analyse(survey: VoteTable, rng: np.random.Generator, curve: LearningCurve | None = None) -> AgreementReport:
    """The report of a survey; `rng` draws the bootstrap's samples, so equal generators give equal reports."""
    whole, survey = survey, survey.without_tests()
    votes, cluster = survey.votes, survey.comparison
    counts = votes.counts()
    without = raw_agreement(counts[:, [0, 2]], rng, cluster=cluster)
    pairs = pair_kappas(votes)
    return AgreementReport(
        votes=len(votes),
        items=int((counts.sum(1) > 0).sum()),
        doubles=int(np.unique(cluster[counts.sum(1) > 1]).size),
        raters=int(np.unique(votes.rater).size),
        answers=cast("tuple[int, int, int]", tuple(int(n) for n in counts.sum(0))),
        agreement=raw_agreement(counts, rng, cluster=cluster),
        agreement_without_ties=without,
        alpha=krippendorff_alpha(counts, rng, cluster=cluster),
        alpha_ordinal=krippendorff_alpha(counts, rng, "ordinal", cluster=cluster),
        alpha_interval=krippendorff_alpha(counts, rng, "interval", cluster=cluster),
        alpha_strength=_of_strengths(survey, rng),
        cohen=pairs.mean(),
        fleiss=fleiss_kappa(counts),
        ceiling=None if math.isnan(without.value) else rater_noise_ceiling(without.value),
        side=side_bias(survey, rng),
        length=length_bias(survey),
        pace=pace(survey.seconds),
        dimensions=_by_dimension(survey, counts, rng),
        by_rater=rater_reports(whole),
        pairs=_named(pairs, votes.raters),
        curve=curve,
    )


def _of_strengths(survey: VoteTable, rng: np.random.Generator) -> Estimate | None:
    """Alpha of signed strengths: positive for the first completion, negative for the second, a tie 0."""
    votes, known = survey.votes, ~np.isnan(survey.strength)
    if not (survey.strength[known] > 0).any():
        return None
    signed = np.where(votes.answer == 2, -survey.strength, survey.strength)[known]
    values, code = np.unique(signed, return_inverse=True)
    if values.size > _GRADES:
        return None
    strengths = count_pairs(votes.item[known], code, (len(votes.items), values.size))
    return krippendorff_alpha(strengths, rng, "interval", values, cluster=survey.comparison)


def _by_dimension(survey: VoteTable, counts: Any, rng: np.random.Generator) -> tuple[DimensionReport, ...]:
    found = []
    for number, name in enumerate(survey.dimensions):
        here = survey.dimension == number
        inside = counts[here]
        found.append(DimensionReport(name, int(inside.sum()), krippendorff_alpha(inside, rng, cluster=survey.comparison[here])))
    return tuple(found)


def _named(pairs: PairKappas, names: tuple[str, ...]) -> tuple[NamedKappa, ...]:
    columns = (pairs.one, pairs.other, pairs.items, pairs.agreement, pairs.kappa)
    first = zip(*(column[:_SPELLED].tolist() for column in columns), strict=True)
    return tuple(NamedKappa(names[one], names[other], items, agreement, kappa) for one, other, items, agreement, kappa in first)


def _plain(value: Any) -> Any:
    """The value with lists for tuples and None for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

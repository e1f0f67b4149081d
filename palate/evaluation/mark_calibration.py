"""What a judge's marks of single completions are worth: their scale in people's log-odds, and how far they are from people's own marks."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from palate.agreement.estimates import Estimate, Flags, Floats, Ints
from palate.agreement.judge_agreement import clustered_mean
from palate.agreement.judge_answers import JudgeAnswers
from palate.agreement.judge_habits import MIN_LABELS
from palate.agreement.paired_logistic import sigmoid
from palate.data.marks import Mark, MarkedText
from palate.evaluation.judge_calibration import (
    JudgedRows,
    Reliability,
    coefficients,
    fitted_half,
    held_out_reliability,
    log_losses,
)
from palate.judges.judge_card import MarkCalibration

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class FittedMarks:
    """The scale of a judge's marks, and how well their differences tell what people prefer on held-out prompts.

    Attributes:
        calibration: temperature and threshold.
        slope: people's log-odds per mark, 1 / temperature.
        fitted: pairs it was fitted on.
        tested: held-out pairs.
        implied: reliability of the probabilities that `collect` takes from two marks, without a calibration.
        calibrated: that of sigma(difference of the calibrated marks).
        constant: that of one half for every pair.
        longer: that of the length rule, fitted on the same pairs; None where a length is not known.
        over_constant: log-loss of the constant less that of the calibrated marks, paired; above 0 where the marks tell more.
        over_longer: the same of the length rule.
    """

    calibration: MarkCalibration
    slope: Estimate
    fitted: int
    tested: int
    implied: Reliability
    calibrated: Reliability
    constant: Reliability
    longer: Reliability | None
    over_constant: Estimate
    over_longer: Estimate | None


@dataclass(frozen=True, slots=True)
class MarkDistance:
    """How far predictions of one person's mark are from it, on held-out prompts, in units of people's marks.

    Attributes:
        completions: completions that the judge and people marked.
        marks: marks of people on them.
        judge: mean distance of the line through the judge's marks, which was fitted on the other prompts.
        people: mean distance of two people's marks of one completion; its n is 0 where no completion has two.
        constant: mean distance of the best constant mark, the median of the other prompts.
        longer: mean distance of the line through the number of words.
        over_constant: distance of the constant less that of the judge, paired; above 0 where the judge is nearer.
        over_longer: the same of the number of words.
    """

    completions: int
    marks: int
    judge: Estimate
    people: Estimate
    constant: Estimate
    longer: Estimate
    over_constant: Estimate
    over_longer: Estimate


def fitted_marks(table: JudgeAnswers, rng: np.random.Generator) -> FittedMarks | str:
    """Fit the scale of a judge's marks on half of the prompts and test it on the others; or say why that is not possible.

    The model is that of Bradley and Terry, with a strength that is a line in the mark: people's share of the first of two completions is
    sigma((mark of the first - mark of the second) / temperature). Nobody saw an order of marks, so there is no offset.
    """
    rows, pair = _pairs_of_marks(table)
    if rows.pairs < MIN_LABELS:
        lacking = MIN_LABELS - rows.pairs
        return f"people judged {rows.pairs} pairs of completions that it marked, and calibration takes {MIN_LABELS}; {lacking} are missing"
    gap, words = table.marks[pair, 0] - table.marks[pair, 1], table.words[pair, 0] - table.words[pair, 1]
    if not gap.any():
        return "it gives both completions of every pair the same mark"
    is_fitted = fitted_half(rows.prompt, rng)
    if isinstance(is_fitted, str):
        return is_fitted
    part, rest = rows.selected(is_fitted), rows.selected(~is_fitted)
    if ((gap[is_fitted] > 0) == part.share)[gap[is_fitted] != 0].all():
        return "people never contradict its marks, so nobody knows how much a mark is worth"
    found = coefficients(part, gap[is_fitted])
    if found is None or not found[0].low > 0:
        return "its marks do not tell what people prefer, so no temperature fits"
    (slope,) = found
    calibrated, constant = sigmoid(slope.value * gap[~is_fitted]), np.full(rest.share.size, 0.5)
    longer = _by_length(part, words[is_fitted], words[~is_fitted])
    losses = log_losses(calibrated, rest)
    return FittedMarks(
        calibration=MarkCalibration(1 / slope.value, float(table.marks[pair].mean())),
        slope=slope,
        fitted=part.pairs,
        tested=rest.pairs,
        implied=held_out_reliability(rest.probability, rest, rng),
        calibrated=held_out_reliability(calibrated, rest, rng),
        constant=held_out_reliability(constant, rest, rng),
        longer=None if longer is None else held_out_reliability(longer, rest, rng),
        over_constant=clustered_mean(log_losses(constant, rest) - losses, rest.cluster, rng),
        over_longer=None if longer is None else clustered_mean(log_losses(longer, rest) - losses, rest.cluster, rng),
    )


def mark_distance(judge: dict[MarkedText, float], people: Sequence[Mark], rng: np.random.Generator) -> MarkDistance | None:
    """Compare a judge's marks with people's marks of the same completions; None with fewer than 50, or too few prompts to split.

    Args:
        judge: the judge's mark of each completion.
        people: people's marks on one dimension. A person's last mark of a completion counts.
        rng: draws the split and the intervals.
    """
    theirs = [(key, value) for (key, _), value in {(mark.key, mark.rater): mark.value for mark in people if mark.key in judge}.items()]
    texts, completion = _numbered([key for key, _ in theirs])
    _, prompt = _numbered([key[0] for key, _ in theirs])
    is_fitted = fitted_half(prompt, rng)
    if len(texts) < MIN_LABELS or isinstance(is_fitted, str):
        return None
    marks, rest = np.array([value for _, value in theirs]), ~is_fitted
    columns = [np.array([judge[text] for text in texts]), np.array([float(len(text[1].split())) for text in texts])]
    constant = np.abs(marks - np.median(marks[is_fitted]))[rest]
    mine, longer = (np.abs(marks - _line(column[completion], marks, is_fitted))[rest] for column in columns)

    def estimate(values: Floats) -> Estimate:
        return clustered_mean(values, prompt[rest], rng)

    return MarkDistance(
        completions=len(texts),
        marks=marks.size,
        judge=estimate(mine),
        people=_among_people(marks[rest], completion[rest], prompt[rest], rng),
        constant=estimate(constant),
        longer=estimate(longer),
        over_constant=estimate(constant - mine),
        over_longer=estimate(longer - mine),
    )


def _pairs_of_marks(table: JudgeAnswers) -> tuple[JudgedRows, Ints]:
    """Return a row per pair of which the judge marked both sides and people judged the pair, and the numbers of these pairs."""
    votes = np.bincount(table.people.pair, minlength=table.pairs).astype(np.float64)
    of_first, label = np.bincount(table.people.pair, 1 - table.people.answer / 2, table.pairs), table.label
    pair = np.flatnonzero((votes > 0) & ~np.isnan(table.marks).any(1) & ~np.isnan(label))
    unknown = np.full(pair.size, -1)
    columns = (votes[pair], unknown, pair, table.prompt[pair], table.cluster[pair])
    return JudgedRows(label[pair], of_first[pair] / votes[pair], *columns), pair


def _by_length(part: JudgedRows, words: Floats, held_out: Floats) -> Floats | None:
    """Return the length rule's probability for held-out pairs, fitted on `part`; None where a length is not known or tells everything."""
    if np.isnan(words).any() or np.isnan(held_out).any():
        return None
    if not words.any():
        return np.full(held_out.size, 0.5)
    found = coefficients(part, words / 10)
    return None if found is None else np.asarray(sigmoid(found[0].value * held_out / 10))


def _numbered(keys: Sequence[Key]) -> tuple[list[Key], Ints]:
    """Return the different keys, and the number of each key among them."""
    numbers = {key: k for k, key in enumerate(dict.fromkeys(keys))}
    return list(numbers), np.array([numbers[key] for key in keys], dtype=np.int64)


def _line(column: Floats, marks: Floats, is_fitted: Flags) -> Floats:
    """(n,) the line through `column` (n,) that is nearest to the fitted marks, by least squares; flat where the column is."""
    x, y = column[is_fitted], marks[is_fitted]
    spread = float(((x - x.mean()) ** 2).sum())
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread if spread else 0.0
    return np.asarray(y.mean() + slope * (column - x.mean()))


def _among_people(marks: Floats, completion: Ints, prompt: Ints, rng: np.random.Generator) -> Estimate:
    """Return the mean distance of a person's mark from another person's mark of the same completion, over marks."""
    gaps, of = [], []
    for number in np.unique(completion):
        own = marks[completion == number]
        if own.size > 1:
            gaps += (np.abs(own[:, None] - own).sum(1) / (own.size - 1)).tolist()
            of += [int(prompt[completion == number][0])] * own.size
    return clustered_mean(np.array(gaps), np.array(of, dtype=np.int64), rng)

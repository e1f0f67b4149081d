"""People's verdicts on a sample of pairs: which pairs to ask about, and the win rate on all pairs that follows from the answers.

Some pairs are asked about because a model suspects them, and some are drawn at random from the others. Each keeps the probability with
which it was chosen, so pairs that were suspected do not count for more than themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from palate.agreement.estimates import Estimate, Flags, Floats, Ints, t95
from palate.core import DataError

UNASKED, TARGETED, RANDOM, KNOWN = range(4)
"""How a pair was treated: it was not asked about; it was suspected; it was drawn at random; its verdict needs nobody."""

PRIOR = 0.25
"""The largest variance that verdicts between 0 and 1 can have. It counts as one more answer in each group, so that answers which happen to
agree do not make an interval without width."""

LEAST = 20
"""With fewer answers on random pairs a model's predictions are not used: their weight would be as uncertain as what they save."""


@dataclass(frozen=True)
class JudgedSample:
    """The pairs of one moment, with what people said about some of them.

    Attributes:
        choice: (n,) how each pair was treated, one of UNASKED, TARGETED, RANDOM and KNOWN. The random draw left out the UNASKED ones.
        predicted: (n,) a model's prediction of the verdict, from 0 to 1.
        verdicts: (n,) the mean verdict, from 0 to 1, which is the share that the first answer won; NaN where there is none yet.
    """

    choice: Ints
    predicted: Floats
    verdicts: Floats

    def __post_init__(self) -> None:
        """Check the shapes."""
        if not self.choice.shape == self.predicted.shape == self.verdicts.shape or self.choice.ndim != 1 or not self.choice.size:
            shapes = f"{self.choice.shape}, {self.predicted.shape}, {self.verdicts.shape}"
            raise DataError(f"a judged sample needs three flat columns of one length, got {shapes}")

    @property
    def answered(self) -> Flags:
        """(n,) True where there is a verdict."""
        return ~np.isnan(self.verdicts)

    @property
    def num_asked_answered(self) -> int:
        """How many of the pairs that were asked about have a verdict."""
        return int((self.answered & (self.choice != KNOWN)).sum())

    @property
    def groups(self) -> Iterator[Flags]:
        """The pairs whose chance of a verdict is the same: known ones, suspected ones, and those that the draw could take."""
        for members in (self.choice == KNOWN, self.choice == TARGETED, np.isin(self.choice, (UNASKED, RANDOM))):
            if members.any():
                yield members


def inclusion_probabilities(choice: Ints) -> Floats:
    """Return the probability with which each pair was asked about (n,); 1 for those that were suspected or known."""
    drawn, left = int((choice == RANDOM).sum()), int((choice == UNASKED).sum())
    return np.where(np.isin(choice, (TARGETED, KNOWN)), 1.0, drawn / max(drawn + left, 1))


def choose_pairs(suspicion: Floats, is_known: Flags, count: int, rng: np.random.Generator) -> Ints:
    """Return how each pair is treated (n,): half of `count` are the most suspected, and the rest are drawn at random from the others.

    Args:
        suspicion: (n,) the higher, the more a pair is suspected; pairs of equal suspicion are taken in a random order.
        is_known: (n,) pairs whose verdict needs nobody; they are never chosen.
        count: pairs to ask about, at most.
        rng: of the random draw.
    """
    choice = np.where(is_known, KNOWN, UNASKED).astype(np.int64)
    open_ = rng.permutation(np.flatnonzero(~is_known))
    ordered = open_[np.argsort(-suspicion[open_], kind="stable")]
    targeted = ordered[: min(count // 2, ordered.size)]
    choice[targeted] = TARGETED
    rest = ordered[targeted.size :]
    choice[rng.permutation(rest)[: count - targeted.size]] = RANDOM
    return choice


def prediction_weight(samples: Sequence[JudgedSample]) -> float:
    """Return how much of the predictions is used, lambda from 0 to 1: the slope of verdicts on predictions over all random pairs.

    Slopes are within each sample. It is 0 with fewer than 20 answers, or where predictions do not differ.
    """
    both = squares = answers = 0.0
    for sample in samples:
        drawn = (sample.choice == RANDOM) & sample.answered
        if drawn.sum() > 1:
            apart = sample.predicted[drawn] - sample.predicted[drawn].mean()
            both += float(apart @ sample.verdicts[drawn])
            squares += float(apart @ apart)
            answers += float(drawn.sum())
    return min(max(both / squares, 0.0), 1.0) if squares > 0 and answers >= LEAST else 0.0


def corrected_rate(sample: JudgedSample, weight: float) -> Estimate | None:
    """Return the win rate on all pairs: predictions where nobody was asked, corrected by what people said where somebody was.

        rate = mean(lambda f) + sum over groups g of N_g / N mean of (y - lambda f) over the answers in g

    A group's answers stand for the whole group, so each has the weight 1 / (probability of being asked, and of an answer there). The
    estimate is right however bad the predictions are, as long as answers come in by chance within a group. The error is that of a new draw
    of prompts: the spread of verdicts over n prompts, and what the draw adds. `n` counts answers of people.

    Args:
        sample: the pairs.
        weight: lambda, see `prediction_weight`.

    Returns:
        None where a group has no answer yet.

    Source: Horvitz and Thompson 1952. With predictions it is the difference estimator of Saerndal, Swensson and Wretman 1992, section 6.3,
    which is prediction-powered inference (Angelopoulos et al. 2023, PPI++) with unequal probabilities.
    """
    total = sample.choice.size
    value = square = drawn_error = 0.0
    freedom = total - 1
    for members in sample.groups:
        judged = members & sample.answered
        size, count = int(members.sum()), int(judged.sum())
        if not count:
            return None
        share, verdicts = size / total, sample.verdicts[judged]
        left = verdicts - weight * sample.predicted[judged]
        value += share * (weight * float(sample.predicted[members].mean()) + float(left.mean()))
        square += share * float((verdicts**2).mean())
        if count < size:
            spread = (float(((left - left.mean()) ** 2).sum()) + PRIOR) / count
            drawn_error += share**2 * (1 - count / size) * spread / count
            freedom = min(freedom, count)
    spread = (max(square - value**2, 0.0) * total + PRIOR) / (total + 1)
    error = math.sqrt(drawn_error + spread / total)
    half = t95(max(freedom, 1)) * error
    return Estimate(value, error, value - half, value + half, sample.num_asked_answered)


@dataclass(frozen=True)
class GainCurve:
    """A smooth curve through win rates, from the start of training on.

    Attributes:
        values: (k,) the curve's win rate at each point.
        best: the number of the point where it is highest.
        fall: how far it has fallen from there to the last point.
        fall_se: the standard error of the fall; 0 where the last point is the highest.
    """

    values: Floats
    best: int
    fall: float
    fall_se: float

    @property
    def has_fallen(self) -> bool:
        """Whether it has fallen by more than the error of the fall."""
        return self.fall > self.fall_se

    def is_over(self, patience: int) -> bool:
        """Whether it has fallen, and its highest point lies so many points back."""
        return self.has_fallen and len(self.values) - 1 - self.best >= patience


def pooled_variances(errors: Floats, answers: Floats) -> Floats:
    """Return the variances (k,) of win rates with standard errors (k,) and numbers of answers (k,).

    The variance of one answer is the mean over all rates. A rate's own error is too small where answers happen to agree, so it would give
    the most extreme rates the largest weights.
    """
    counts = np.maximum(answers, 1)
    pooled: Floats = np.mean(errors**2 * counts) / counts
    return pooled


FEWEST = 3
"""Points that a curve of two coefficients needs, so that it does not go through all of them."""


def gain_curve(iterations: Sequence[int], rates: Sequence[Estimate]) -> GainCurve | None:
    """Fit `1/2 + a sqrt(t) + b t` to the win rates at iterations t, by least squares with the inverse `pooled_variances` as weights.

    It is 1/2 at the start, because the policy is the start's there. In `d = sqrt(t)` it is the form `d (a - b d)` of Gao et al. 2022. The
    iteration takes the place of the KL because quality may fall while the KL stays.

    Returns:
        None with fewer than three points.
    """
    if len(rates) < FEWEST:
        return None
    t = np.asarray(iterations, dtype=np.float64)
    design = np.stack([np.sqrt(t), t], 1)
    errors, answers = (np.array([float(value) for value in column]) for column in zip(*((rate.se, rate.n) for rate in rates), strict=True))
    weights = 1 / pooled_variances(errors, answers)
    covariance = np.linalg.inv(design.T @ (weights[:, None] * design))
    coefficients = covariance @ (design.T @ (weights * (np.array([rate.value for rate in rates]) - 0.5)))
    values = design @ coefficients
    best = int(np.argmax(values))
    step = design[best] - design[-1]
    return GainCurve(values + 0.5, best, float(step @ coefficients), math.sqrt(float(step @ covariance @ step)))

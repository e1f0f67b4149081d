"""Few answers of people and many of a model, joined into one mean whose interval is people's."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from palate.agreement.estimates import Estimate, Floats, Ints, t95
from palate.core import DataError

LEAST = 50
"""With answers of people on fewer clusters nothing is joined: the interval would be too short."""


@dataclass(frozen=True, slots=True)
class PoweredMean:
    """People's mean answer, estimated with the help of a model.

    Attributes:
        estimate: the mean with an interval that does not rest on the model being right. `n` counts clusters with answers of people.
        weight: how much of the model's answers is used, lambda: 0 where they say nothing about people's, about 1 where they say the same.
        saved: answers of people beyond those given that it would take to be as exact without the model. Negative where it does not help.
    """

    estimate: Estimate
    weight: float
    saved: float


def powered_mean(people: Floats, model: Floats, cluster: Ints, alone: Floats, alone_cluster: Ints) -> PoweredMean | None:
    """Return the mean of people's answers, corrected by what a model says about many more questions.

        mean = mean(people) + lambda (mean(alone) - mean(model))

    with the lambda that makes the variance least. The estimate is right however bad the model is, as long as the questions that people
    answered are a random draw from all. Errors are clustered, also over both groups. Source: Angelopoulos, Duchi and Zrnic 2023 ("PPI++:
    Efficient Prediction-Powered Inference"), section 6.

    Args:
        people: (n,) people's answers.
        model: (n,) the model's answers to the same questions.
        cluster: (n,) number of each answer's cluster, such as its prompt.
        alone: (m,) the model's answers to questions that no person answered.
        alone_cluster: (m,) their clusters, in the same numbers.

    Returns:
        None with answers of people in fewer than 50 clusters, without questions of the model alone, or where all people say the same.

    Raises:
        DataError: arrays of different lengths, or an answer that is not a finite number.
    """
    if not people.shape == model.shape == cluster.shape or alone.shape != alone_cluster.shape:
        raise DataError(
            f"powered mean: shapes differ: {people.shape}, {model.shape}, {cluster.shape}; {alone.shape}, {alone_cluster.shape}"
        )
    if not all(np.isfinite(part).all() for part in (people, model, alone)):
        raise DataError("powered mean: an answer is not a finite number. Leave out questions without an answer.")
    groups = int(np.unique(cluster).size)
    if groups < LEAST or not alone.size or np.ptp(people) == 0:
        return None
    _, number = np.unique(np.concatenate([cluster, alone_cluster]), return_inverse=True)
    ours, theirs = number[: people.size], number[people.size :]

    def influence(values: Floats, of: Ints) -> Floats:
        """What each cluster adds to the mean of the values beyond its share."""
        return np.bincount(of, values - values.mean(), int(number.max()) + 1) / values.size

    own = influence(people, ours)
    correction = influence(model, ours) - influence(alone, theirs)
    spread = float(correction @ correction)
    weight = float(own @ correction) / spread if spread > 0 else 0.0
    left = own - weight * correction
    # The mean and lambda are fitted to the same clusters, so what is left of each is smaller than it would be without it (HC3).
    pull = np.where(np.isin(np.arange(left.size), ours), 1 / groups, 0.0) + (correction**2 / spread if spread > 0 else 0.0)
    variance = float(((left / (1 - np.minimum(pull, 0.5))) ** 2).sum())
    plain = float(own @ own) * groups / (groups - 1)
    value = float(people.mean() + weight * (alone.mean() - model.mean()))
    saved = people.size * (plain / variance - 1) if variance > 0 else math.inf
    error = math.sqrt(variance)
    half = t95(groups - 2) * error
    return PoweredMean(Estimate(value, error, value - half, value + half, groups), weight, saved)

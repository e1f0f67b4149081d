"""Ensembles of reward models: how several scores become one, and heads drawn from one model's posterior as a cheap ensemble."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from palate.config.answers import LARGEST
from palate.config.settings import nearest
from palate.core import ConfigError


@dataclass(frozen=True, kw_only=True)
class Mean:
    """The mean of the models' scores; their disagreement does not count."""

    kind: Literal["mean"] = "mean"

    def __call__(self, scores: Tensor) -> Tensor:
        """Return scores (..., b) from the scores (m, ..., b) of m models."""
        return scores.mean(0)


@dataclass(frozen=True, kw_only=True)
class Worst:
    """The lowest of the models' scores, called worst-case optimisation (WCO). Source: Coste et al. 2023."""

    kind: Literal["wco"] = "wco"

    def __call__(self, scores: Tensor) -> Tensor:
        """Return scores (..., b) from the scores (m, ..., b) of m models."""
        return scores.amin(0)


@dataclass(frozen=True, kw_only=True)
class UncertaintyWeighted:
    """The mean minus `coefficient` times the variance among the models (UWO). Source: Coste et al. 2023.

    The variance is divided by the number of models m, not by m - 1.

    Attributes:
        coefficient: cost of a variance of 1; 0 is the mean.
    """

    kind: Literal["uwo"] = "uwo"
    coefficient: float = 0.5

    def __post_init__(self) -> None:
        """Check the setting."""
        if not 0 <= self.coefficient <= LARGEST:
            raise ConfigError(f"uwo: coefficient must be >= 0 and at most {LARGEST:g}, got {self.coefficient}; 0.5 is usual")

    def __call__(self, scores: Tensor) -> Tensor:
        """Return scores (..., b) from the scores (m, ..., b) of m models."""
        return scores.mean(0) - self.coefficient * scores.var(0, correction=0)


@dataclass(frozen=True, kw_only=True)
class MeanMinusDeviations:
    """The mean minus `deviations` standard deviations among the models: in units of the score, unlike `uwo`.

    The variance is divided by the number of models m, as in `uwo`. Two models and one deviation give the lower score.

    Attributes:
        deviations: how many standard deviations are subtracted; 0 is the mean.
    """

    kind: Literal["mean_minus_sd"] = "mean_minus_sd"
    deviations: float = 1.0

    def __post_init__(self) -> None:
        """Check the setting."""
        if not 0 <= self.deviations <= LARGEST:
            raise ConfigError(f"mean_minus_sd: deviations must be >= 0 and at most {LARGEST:g}, got {self.deviations}; 1 is usual")

    def __call__(self, scores: Tensor) -> Tensor:
        """Return scores (..., b) from the scores (m, ..., b) of m models."""
        return scores.mean(0) - self.deviations * scores.std(0, correction=0)


@dataclass(frozen=True, kw_only=True)
class SoftMin:
    """A score between the mean and the minimum: `-beta log mean exp(-score / beta)`.

    It is the lowest value, over all mixtures of the models, of the mixture's mean plus `beta` times its KL to the uniform mixture.

    Attributes:
        beta: in units of the score; near 0 gives the minimum, a large value the mean.
    """

    kind: Literal["soft_min"] = "soft_min"
    beta: float = 1.0

    def __post_init__(self) -> None:
        """Check the setting."""
        if not 1 / LARGEST <= self.beta <= LARGEST:
            raise ConfigError(
                f"soft_min: beta must be from {1 / LARGEST:g} to {LARGEST:g}, got {self.beta}; use wco for the limit at 0, mean for that "
                "at infinity"
            )

    def __call__(self, scores: Tensor) -> Tensor:
        """Return scores (..., b) from the scores (m, ..., b) of m models."""
        return -self.beta * (torch.logsumexp(-scores / self.beta, 0) - math.log(len(scores)))


Ensemble = Mean | Worst | UncertaintyWeighted | MeanMinusDeviations | SoftMin

_NUMBERED: Mapping[str, Callable[[float], Ensemble]] = {
    "uwo": lambda number: UncertaintyWeighted(coefficient=number),
    "mean_minus_sd": lambda number: MeanMinusDeviations(deviations=number),
    "soft_min": lambda number: SoftMin(beta=number),
}

ENSEMBLES: Mapping[str, Ensemble] = {
    "mean": Mean(),
    "wco": Worst(),
    "uwo": UncertaintyWeighted(),
    "mean_minus_sd": MeanMinusDeviations(),
    "soft_min": SoftMin(),
}
"""Rules by kind, with their default numbers."""


def read_ensemble(word: str) -> Ensemble:
    """Return the rule that a word means: its kind, and after `=` its number, such as `uwo=0.3`.

    Raises:
        ConfigError: there is no such kind, it takes no number, or the number is out of range.
    """
    kind, equals, number = word.partition("=")
    if kind not in ENSEMBLES:
        raise ConfigError(f"--ensemble: there is no rule {kind!r}. {nearest(kind, ENSEMBLES)}")
    if not equals:
        return ENSEMBLES[kind]
    if kind not in _NUMBERED:
        raise ConfigError(f"--ensemble: {kind} takes no number; {', '.join(_NUMBERED)} do. Leave out ={number}")
    try:
        value = float(number)
    except ValueError as error:
        raise ConfigError(f"--ensemble: {word} needs a number behind =, such as {kind}=0.5") from error
    return _NUMBERED[kind](value)


Floats = npt.NDArray[np.float64]


def precision_of(differences: Floats, head: Floats, weight: Floats) -> Floats:
    """Return the precision H (d, d) of what the judgments leave open about a reward model's last layer.

    With states f of the trained backbone, a head w says P(first wins) = sigma(w x), where x = f_first - f_second. The Laplace
    approximation of its posterior is the normal distribution with mean w, the head as trained, and precision

        H = sum over judgments of weight * p (1 - p) x x^T + (d + 1) I.

    Here p is what w says, and d + 1 is the precision with which heads are drawn before training. Heads drawn from it disagree about pairs
    whose x points where few judged ones do. All share the backbone and its mistakes; an ensemble of models trained apart sees more, at a
    cost that grows with its size. Each preference counts as one judgment, however many votes it rests on.

    Source: MacKay 1992; the last layer alone as in Daxberger et al. 2021 (Laplace Redux), for reward models Yang et al. 2024.

    Args:
        differences: differences of the judged pairs' states (p, d).
        head: the head as trained (d,).
        weight: the pairs' weights (p,).
    """
    certainty = 0.5 * (1 + np.tanh(differences @ head / 2))
    scaled = differences * (weight * certainty * (1 - certainty))[:, None]
    return np.asarray(differences.T @ scaled + (len(head) + 1) * np.eye(len(head)))


def drawn_heads(head: Floats, precision: Floats, members: int, rng: np.random.Generator) -> Floats:
    """Return `members` heads (m, d) drawn from the normal distribution with mean `head` and this precision."""
    root = np.linalg.cholesky(precision)  # H = root root^T, so root^-T z has covariance H^-1
    return np.asarray(head + np.linalg.solve(root.T, rng.standard_normal((len(head), members))).T)

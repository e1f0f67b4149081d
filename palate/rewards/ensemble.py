"""Several reward models to one score: how much their disagreement is to count."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from palate.core import ConfigError


@dataclass(frozen=True, kw_only=True)
class Mean:
    """The mean of the models' scores: their disagreement does not count."""

    kind: Literal["mean"] = "mean"

    def __call__(self, scores: Tensor) -> Tensor:
        """Scores (..., b) of scores (m, ..., b) of m models."""
        return scores.mean(0)


@dataclass(frozen=True, kw_only=True)
class Worst:
    """The lowest of the models' scores: worst-case optimisation (WCO). Source: Coste et al. 2023 eq. 3."""

    kind: Literal["wco"] = "wco"

    def __call__(self, scores: Tensor) -> Tensor:
        """Scores (..., b) of scores (m, ..., b) of m models."""
        return scores.amin(0)


@dataclass(frozen=True, kw_only=True)
class UncertaintyWeighted:
    """The mean less `coefficient` times the variance among the models (UWO), divided by m. Source: Coste et al. 2023 eq. 4.

    Attributes:
        coefficient: cost of a variance of 1; 0 is the mean.
    """

    kind: Literal["uwo"] = "uwo"
    coefficient: float = 0.5

    def __post_init__(self) -> None:
        """Checks the setting."""
        if not 0 <= self.coefficient < math.inf:
            raise ConfigError(f"uwo: coefficient must be >= 0 and finite, got {self.coefficient}; 0.5 is usual")

    def __call__(self, scores: Tensor) -> Tensor:
        """Scores (..., b) of scores (m, ..., b) of m models."""
        return scores.mean(0) - self.coefficient * scores.var(0, correction=0)


@dataclass(frozen=True, kw_only=True)
class SoftMin:
    """Between the mean and the minimum: `-beta log mean exp(-score / beta)`.

    The worst mean over all mixtures of the models, less `beta` times the mixture's KL to the even one.

    Attributes:
        beta: score units; near 0 it is the minimum, large it is the mean.
    """

    kind: Literal["soft_min"] = "soft_min"
    beta: float = 1.0

    def __post_init__(self) -> None:
        """Checks the setting."""
        if not 0 < self.beta < math.inf:
            raise ConfigError(f"soft_min: beta must be > 0 and finite, got {self.beta}; wco is the limit at 0, mean the one at infinity")

    def __call__(self, scores: Tensor) -> Tensor:
        """Scores (..., b) of scores (m, ..., b) of m models."""
        return -self.beta * (torch.logsumexp(-scores / self.beta, 0) - math.log(len(scores)))


Ensemble = Mean | Worst | UncertaintyWeighted | SoftMin

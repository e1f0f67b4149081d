"""Reward models from pairs with ties, which learn how wide a tie is: Rao-Kupper and Davidson."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from palate.core import ConfigError
from palate.objectives.bradley_terry import JudgedScores, PairScores, pair_metrics
from palate.objectives.reduce import Sums, weighted_ratio


@dataclass(frozen=True)
class TiePairs:
    """Pairs, with the parameter of ties.

    Attributes:
        pairs: (p,) scores and labels; a label of exactly 0.5 is a tie, and no other label is.
        tie: (1,) the learned parameter of ties, before it is made positive.
    """

    pairs: PairScores
    tie: Tensor

    def __post_init__(self) -> None:
        """Check the shape."""
        if self.tie.shape != (1,):
            raise ValueError(f"TiePairs needs one parameter of ties, got the shape {tuple(self.tie.shape)}; pass a tensor of shape (1,)")


@dataclass(frozen=True, kw_only=True)
class RaoKupper:
    """Judgments with ties, where raters do not see a difference of less than eta logits; per `sum weight`.

    `P(first) = sigma(d - eta)`, `P(second) = sigma(-d - eta)`, `P(tie) = (e^(2 eta) - 1) P(first) P(second)`, `eta = softplus(tie) >= 0`.
    It learns eta with the model. At eta 0 it is Bradley-Terry.

    Source: Rao and Kupper 1967 (theta = e^eta).

    Attributes:
        start: initial eta, in logits.
        lr: learning rate of eta; the model's schedule applies.

    Metrics: as `BradleyTerry`, and `ties` (share of ties among the judgments) and `tie_probability` (mean predicted probability of a tie).
    The last two should come to agree.
    """

    kind: Literal["rao_kupper"] = "rao_kupper"
    start: float = 0.5
    lr: float = 0.05
    learns: ClassVar[str] = "eta"
    learns_per_rater: ClassVar[bool] = False
    learns_from: ClassVar[Literal["judgments"]] = "judgments"

    def __post_init__(self) -> None:
        """Check the settings."""
        _check(self.kind, self.start, self.lr)

    @property
    def raw_start(self) -> float:
        """Return the initial `tie`: the inverse of softplus at `start`."""
        return self.start + math.log(-math.expm1(-self.start))

    def natural(self, tie: Tensor) -> Tensor:
        """Return eta, in logits."""
        return functional.softplus(tie)

    def __call__(self, inputs: TiePairs) -> Sums:
        """Return sums over pairs; differentiable in the scores and in `tie`."""
        difference, eta = inputs.pairs.chosen - inputs.pairs.rejected, self.natural(inputs.tie)
        first, second = functional.logsigmoid(difference - eta), functional.logsigmoid(-difference - eta)
        tie = 2 * eta + torch.log(-torch.expm1(-2 * eta)) + first + second
        return _tie_sums(inputs.pairs, first, tie, second)

    def of_judged(self, inputs: JudgedScores) -> Sums:
        """Return sums over the pairs of a micro-batch."""
        return self(TiePairs(inputs.pairs, inputs.numbers))


@dataclass(frozen=True, kw_only=True)
class Davidson:
    """Judgments with ties, which are likelier the closer the scores are; per `sum weight`.

    `P(first), P(tie), P(second) = softmax([d / 2, log nu, -d / 2])`, `nu = exp(tie)`. It learns nu with the model. At nu 0
    it is Bradley-Terry. Equal scores tie with probability `nu / (2 + nu)`.

    Source: Davidson 1970.

    Attributes:
        start: initial nu.
        lr: learning rate of log nu; the model's schedule applies.

    Metrics: as `RaoKupper`.
    """

    kind: Literal["davidson"] = "davidson"
    start: float = 0.5
    lr: float = 0.05
    learns: ClassVar[str] = "nu"
    learns_per_rater: ClassVar[bool] = False
    learns_from: ClassVar[Literal["judgments"]] = "judgments"

    def __post_init__(self) -> None:
        """Check the settings."""
        _check(self.kind, self.start, self.lr)

    @property
    def raw_start(self) -> float:
        """Return the initial `tie`."""
        return math.log(self.start)

    def natural(self, tie: Tensor) -> Tensor:
        """Return nu."""
        return tie.exp()

    def __call__(self, inputs: TiePairs) -> Sums:
        """Return sums over pairs; differentiable in the scores and in `tie`."""
        half = (inputs.pairs.chosen - inputs.pairs.rejected) / 2
        first, tie, second = torch.stack([half, inputs.tie.expand_as(half), -half]).log_softmax(0)
        return _tie_sums(inputs.pairs, first, tie, second)

    def of_judged(self, inputs: JudgedScores) -> Sums:
        """Return sums over the pairs of a micro-batch."""
        return self(TiePairs(inputs.pairs, inputs.numbers))


def _tie_sums(pairs: PairScores, first: Tensor, tie: Tensor, second: Tensor) -> Sums:
    """Return sums of `-log P` of the judgments: a tie at probability 0.5, else the win of either side, weighted by its probability."""
    probability, weight = pairs.probability, pairs.weight.detach()
    tied = probability == 0.5
    nll = -torch.where(tied, tie, probability * first + (1 - probability) * second)
    metrics = {
        **pair_metrics(pairs, nll, weight),
        "ties": weighted_ratio(tied.to(nll.dtype), weight),
        "tie_probability": weighted_ratio(tie.exp(), weight),
    }
    return Sums(loss=(weight * nll).sum(), count=weight.sum(), metrics=metrics)


def _check(kind: str, start: float, lr: float) -> None:
    if not start > 0:
        raise ConfigError(f"{kind}: start must be > 0, got {start}; use 0.5, or bradley_terry where there are no ties")
    if not lr > 0:
        raise ConfigError(f"{kind}: lr must be > 0, got {lr}; at 0 it does not learn the width of a tie")

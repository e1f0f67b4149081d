"""Reward models from pairs with ties, where how wide a tie is gets learned: Rao-Kupper and Davidson."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from palate.core import ConfigError
from palate.objectives.bradley_terry import PairScores, pair_metrics
from palate.objectives.reduce import Sums, weighted_ratio


@dataclass(frozen=True)
class TiePairs:
    """Pairs and what is learned of ties.

    Attributes:
        pairs: (p,) scores and labels; a label of exactly 0.5 is a tie, any other is no tie.
        tie: (1,) the learned number of ties, before it is made positive.
    """

    pairs: PairScores
    tie: Tensor

    def __post_init__(self) -> None:
        """Checks the shape."""
        if self.tie.shape != (1,):
            raise ValueError(f"TiePairs needs one number of ties, got the shape {tuple(self.tie.shape)}; give a tensor of shape (1,)")


@dataclass(frozen=True, kw_only=True)
class RaoKupper:
    """Judgments with ties: a difference of less than eta logits is not seen. Per `sum weight`.

    `P(first) = sigma(d - eta)`, `P(second) = sigma(-d - eta)`, `P(tie) = (e^(2 eta) - 1) P(first) P(second)`, `eta = softplus(tie) >= 0`,
    learned with the model. At eta 0 it is Bradley-Terry.

    Source: Rao and Kupper 1967 (theta = e^eta).

    Attributes:
        start: eta in the beginning, in logits.
        lr: learning rate of eta; the model's schedule applies.

    Metrics: as `BradleyTerry`, and `tie_probability`, which should come to what is said of ties: `ties`, the share of them.
    """

    kind: Literal["rao_kupper"] = "rao_kupper"
    start: float = 0.5
    lr: float = 0.05
    learns: ClassVar[str] = "eta"

    def __post_init__(self) -> None:
        """Checks the settings."""
        _check(self.kind, self.start, self.lr)

    @property
    def raw_start(self) -> float:
        """`tie` in the beginning: the inverse of softplus."""
        return self.start + math.log(-math.expm1(-self.start))

    def natural(self, tie: Tensor) -> Tensor:
        """eta, in logits."""
        return functional.softplus(tie)

    def __call__(self, inputs: TiePairs) -> Sums:
        """Sums over pairs; differentiable in the scores and in `tie`."""
        difference, eta = inputs.pairs.chosen - inputs.pairs.rejected, self.natural(inputs.tie)
        first, second = functional.logsigmoid(difference - eta), functional.logsigmoid(-difference - eta)
        tie = 2 * eta + torch.log(-torch.expm1(-2 * eta)) + first + second
        return _tie_sums(inputs.pairs, first, tie, second)


@dataclass(frozen=True, kw_only=True)
class Davidson:
    """Judgments with ties, likelier the closer the scores are. Per `sum weight`.

    `P(first), P(tie), P(second) = softmax([d / 2, log nu, -d / 2])`, `nu = exp(tie)`, learned with the model. At nu 0 it is
    Bradley-Terry; equal scores tie with probability `nu / (2 + nu)`.

    Source: Davidson 1970.

    Attributes:
        start: nu in the beginning.
        lr: learning rate of log nu; the model's schedule applies.

    Metrics: as `RaoKupper`.
    """

    kind: Literal["davidson"] = "davidson"
    start: float = 0.5
    lr: float = 0.05
    learns: ClassVar[str] = "nu"

    def __post_init__(self) -> None:
        """Checks the settings."""
        _check(self.kind, self.start, self.lr)

    @property
    def raw_start(self) -> float:
        """`tie` in the beginning."""
        return math.log(self.start)

    def natural(self, tie: Tensor) -> Tensor:
        """Nu."""
        return tie.exp()

    def __call__(self, inputs: TiePairs) -> Sums:
        """Sums over pairs; differentiable in the scores and in `tie`."""
        half = (inputs.pairs.chosen - inputs.pairs.rejected) / 2
        first, tie, second = torch.stack([half, inputs.tie.expand_as(half), -half]).log_softmax(0)
        return _tie_sums(inputs.pairs, first, tie, second)


def _tie_sums(pairs: PairScores, first: Tensor, tie: Tensor, second: Tensor) -> Sums:
    """Sums of `-log P` of what was said: a tie at probability 0.5, else a win of either side, weighed by the probability."""
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
        raise ConfigError(f"{kind}: start must be > 0, got {start}; 0.5 is usual. Without ties use bradley_terry")
    if not lr > 0:
        raise ConfigError(f"{kind}: lr must be > 0, got {lr}; else the width of a tie is never learned")

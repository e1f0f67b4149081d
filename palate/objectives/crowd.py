"""Reward models from single judgments of raters who differ in reliability: Crowd-BT."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from palate.core import ConfigError
from palate.objectives.bradley_terry import PairScores, noisy_preference_nll, pair_metrics
from palate.objectives.reduce import Sums, check_shapes, weighted_ratio


@dataclass(frozen=True)
class CrowdPairs:
    """Single judgments with the reliability of who made them.

    Attributes:
        pairs: (p,) scores and labels: 1 where chosen won, 0 where rejected won, 0.5 for a tie.
        reliability: (p,) log-odds that the rater of each judgment says what is seen.
        items: (n,) scores of all completions judged here, each once.
    """

    pairs: PairScores
    reliability: Tensor
    items: Tensor

    def __post_init__(self) -> None:
        """Checks the shapes."""
        check_shapes("CrowdPairs", {"reliability": self.reliability, "chosen": self.pairs.chosen})


@dataclass(frozen=True, kw_only=True)
class CrowdBT:
    """Bradley-Terry of judgments by raters of unequal reliability, per `sum weight`.

    `P(first by rater k) = e_k sigma(d) + (1 - e_k) sigma(-d)`. `e_k = sigma(.)` is learned with the model: 1 says what is seen, 0.5
    tosses a coin and is not heard, below 0.5 says the opposite and is turned round. To it come
    `-regularisation [log sigma(r) + log sigma(-r)]` for each completion: so many judgments won and lost against one of score 0.

    Scores and reliabilities turned round together, `-r` and `1 - e`, are as likely as they were. So reliabilities are held where they
    start until the scores point the way of the majority.

    Source: Chen et al. 2013, likelihood and regulariser (s_0 = 0); there learned in turns, here by gradient.

    Attributes:
        start: reliability of every rater in the beginning; above 0.5, or nothing tells good from bad.
        lr: learning rate of the log-odds of reliabilities; the model's schedule applies.
        held: share of the steps during which reliabilities stay where they start.
        regularisation: weight of the pull of each completion's score towards 0.

    Metrics: as `BradleyTerry`; `reliability` (mean over judgments), `honest` (mean probability that a judgment says what was seen, given
    the scores).
    """

    kind: Literal["crowd_bt"] = "crowd_bt"
    start: float = 0.9
    lr: float = 0.05
    held: float = 0.25
    regularisation: float = 0.01
    learns: ClassVar[str] = "reliability"

    def __post_init__(self) -> None:
        """Checks the settings."""
        if not 0.5 < self.start < 1:
            raise ConfigError(f"crowd_bt: start must lie between 0.5 and 1, got {self.start}; 0.9 is usual")
        if not self.lr > 0:
            raise ConfigError(f"crowd_bt: lr must be > 0, got {self.lr}; else no reliability is ever learned")
        if not 0 <= self.held < 1:
            raise ConfigError(f"crowd_bt: held must be a share of the steps in [0, 1), got {self.held}; 0.25 is usual")
        if not self.regularisation >= 0:
            raise ConfigError(f"crowd_bt: regularisation must be >= 0, got {self.regularisation}; 0 turns it off")

    @property
    def raw_start(self) -> float:
        """Log-odds of every rater in the beginning."""
        return math.log(self.start / (1 - self.start))

    def natural(self, reliability: Tensor) -> Tensor:
        """Probability that a rater says what is seen."""
        return reliability.sigmoid()

    def __call__(self, inputs: CrowdPairs) -> Sums:
        """Sums over judgments and completions; differentiable in scores and reliabilities."""
        pairs, weight = inputs.pairs, inputs.pairs.weight.detach()
        difference = pairs.chosen - pairs.rejected
        nll = noisy_preference_nll(difference, pairs.probability, inputs.reliability)
        pull = functional.softplus(inputs.items) + functional.softplus(-inputs.items)
        metrics = {
            **pair_metrics(pairs, nll, weight),
            "reliability": weighted_ratio(self.natural(inputs.reliability), weight),
            "honest": weighted_ratio(honesty(difference, pairs.probability, inputs.reliability), weight),
        }
        return Sums(loss=(weight * nll).sum() + self.regularisation * pull.sum(), count=weight.sum(), metrics=metrics)


def honesty(difference: Tensor, probability: Tensor, reliability: Tensor) -> Tensor:
    """Probability that each judgment says what was seen, given scores and reliability (log-odds add up), shape of `difference`."""
    won, lost = torch.sigmoid(reliability + difference), torch.sigmoid(reliability - difference)
    return probability * won + (1 - probability) * lost

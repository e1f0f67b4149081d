"""Reward models from single judgments of raters with different reliabilities: Crowd-BT."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from palate.core import ConfigError
from palate.objectives.bradley_terry import JudgedScores, PairScores, noisy_preference_nll, pair_metrics
from palate.objectives.reduce import Sums, check_shapes, weighted_ratio


@dataclass(frozen=True)
class CrowdPairs:
    """Single judgments with the reliability of their raters.

    Attributes:
        pairs: (p,) scores and labels: 1 where chosen won, 0 where rejected won, 0.5 for a tie.
        reliability: (p,) log-odds that the rater of each judgment says what they see.
        items: (n,) scores of all judged completions, each once.
    """

    pairs: PairScores
    reliability: Tensor
    items: Tensor

    def __post_init__(self) -> None:
        """Check the shapes."""
        check_shapes("CrowdPairs", {"reliability": self.reliability, "chosen": self.pairs.chosen})


@dataclass(frozen=True, kw_only=True)
class CrowdBT:
    """Bradley-Terry of judgments by raters of unequal reliability, per `sum weight`.

    `P(first by rater k) = e_k sigma(d) + (1 - e_k) sigma(-d)`. The objective learns `e_k = sigma(.)` with the model. A rater with
    e = 1 says what they see; with 0.5 they toss a coin and have no effect; below 0.5 they say the opposite and the loss turns their
    judgments round. The loss adds `-regularisation [log sigma(r) + log sigma(-r)]` for each completion, as if it had won and lost that
    many judgments against a completion of score 0.

    Scores `-r` with reliabilities `1 - e` have the same likelihood as `r` with `e`. So the reliabilities stay where they start until the
    scores agree with the majority.

    Source: Chen et al. 2013, likelihood and regulariser (s_0 = 0). The paper alternates between scores and
    reliabilities; here both follow the gradient.

    Attributes:
        start: initial reliability of every rater; above 0.5, because at 0.5 judgments have no information.
        lr: learning rate of the log-odds of reliabilities; the model's schedule applies.
        held: share of the steps during which reliabilities stay where they start.
        regularisation: how strongly each completion's score is pulled towards 0.

    Metrics: as `BradleyTerry`; `reliability` (mean over judgments), `honest` (mean probability that a judgment says what the
    rater saw, given the scores).
    """

    kind: Literal["crowd_bt"] = "crowd_bt"
    start: float = 0.9
    lr: float = 0.05
    held: float = 0.25
    regularisation: float = 0.01
    learns: ClassVar[str] = "reliability"
    learns_per_rater: ClassVar[bool] = True
    learns_from: ClassVar[Literal["judgments"]] = "judgments"

    def __post_init__(self) -> None:
        """Check the settings."""
        if not 0.5 < self.start < 1:
            raise ConfigError(f"crowd_bt: start must lie between 0.5 and 1, got {self.start}; use 0.9")
        if not self.lr > 0:
            raise ConfigError(f"crowd_bt: lr must be > 0, got {self.lr}; at 0 it learns no reliability")
        if not 0 <= self.held < 1:
            raise ConfigError(f"crowd_bt: held must be a share of the steps in [0, 1), got {self.held}; use 0.25")
        if not self.regularisation >= 0:
            raise ConfigError(f"crowd_bt: regularisation must be >= 0, got {self.regularisation}; 0 turns it off")

    @property
    def raw_start(self) -> float:
        """Return the initial log-odds of every rater."""
        return math.log(self.start / (1 - self.start))

    def natural(self, reliability: Tensor) -> Tensor:
        """Return the probability that a rater says what they see."""
        return reliability.sigmoid()

    def __call__(self, inputs: CrowdPairs) -> Sums:
        """Return sums over judgments and completions; differentiable in scores and reliabilities."""
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

    def of_judged(self, inputs: JudgedScores) -> Sums:
        """Return sums over a micro-batch; reliabilities get no gradient before the share `held` of the steps is done."""
        numbers = inputs.numbers.detach() if inputs.progress < self.held else inputs.numbers
        return self(CrowdPairs(inputs.pairs, numbers[inputs.rater], inputs.items))


def honesty(difference: Tensor, probability: Tensor, reliability: Tensor) -> Tensor:
    """Return the probability that each judgment says what its rater saw, given scores and reliability; shape of `difference`.

    The log-odds of both add up.
    """
    won, lost = torch.sigmoid(reliability + difference), torch.sigmoid(reliability - difference)
    return probability * won + (1 - probability) * lost

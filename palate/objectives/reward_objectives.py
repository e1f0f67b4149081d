"""The objectives of reward models by what they learn from, and the parameters that some of them learn beside the model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from palate.objectives.bradley_terry import AllPairs, BradleyTerry
from palate.objectives.crowd import CrowdBT
from palate.objectives.rankings import PickBest, PlackettLuce
from palate.objectives.ties import Davidson, RaoKupper

RankingObjective = PlackettLuce | PickBest
"""Objectives that learn from whole rankings of a prompt's completions."""

JudgmentObjective = RaoKupper | Davidson | CrowdBT
"""Objectives that learn from single judgments. They learn `LearnedNumbers` beside the model."""

RewardObjective = BradleyTerry | AllPairs | PlackettLuce | PickBest | RaoKupper | Davidson | CrowdBT
"""All objectives of reward models. The first two learn from preferences."""


class LearnedNumbers(nn.Module):
    """Parameters of an objective, learned at their own learning rate: the width of ties, or one reliability per rater.

    Adam moves a parameter by about the learning rate per step, whatever its gradient is. At a rate that suits a model's weights these
    numbers would stay where they began. So the module learns `raw`, and its numbers are `start + speed raw`. The gradient that reaches
    `raw` is the gradient of the numbers themselves, so `speed` does not affect how the model's gradient is clipped.
    """

    def __init__(self, start: float, count: int, speed: float) -> None:
        """Make `count` numbers that begin at `start` and move `speed` times as fast as the model's weights."""
        super().__init__()
        self.start = start
        self.speed = speed
        self.raw = nn.Parameter(torch.zeros(count))

    def forward(self) -> Tensor:
        """Return the numbers (count,), differentiable."""
        return self.start + self.raw + (self.speed - 1) * self.raw.detach()

"""Numbers that an objective learns beside the model: the width of ties, the reliability of raters."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LearnedNumbers(nn.Module):
    """One learned number, or one a rater, at a learning rate of its own.

    Adam moves a parameter by about the learning rate a step, whatever its gradient; a rate that suits a model's weights would
    leave these numbers where they began. So what is learned is `raw`, and the numbers are `start + speed raw`. The gradient that
    reaches `raw` is that of the numbers themselves, so that `speed` does not reach into the clipping of the model's gradient.
    """

    def __init__(self, start: float, count: int, speed: float) -> None:
        """`count` numbers that begin at `start` and move `speed` times as fast as the model's weights."""
        super().__init__()
        self.start = start
        self.speed = speed
        self.raw = nn.Parameter(torch.zeros(count))

    def forward(self) -> Tensor:
        """The numbers (count,), differentiable."""
        return self.start + self.raw + (self.speed - 1) * self.raw.detach()

"""The optimizer: AdamW with gradient clipping and a learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from palate.core import ConfigError


@dataclass(frozen=True)
class AdamW:
    """AdamW with gradient clipping and a learning-rate schedule.

    Attributes:
        lr: highest learning rate.
        warmup: share of all steps during which the learning rate rises from 0.
        decay: shape of the learning rate after the warmup; linear and cosine fall to 0.
        betas: decay rates of the running means of the gradient and the squared gradient.
        eps: added to the root of the mean squared gradient; 1e-5 is usual for PPO (Huang et al. 2024).
        weight_decay: decoupled weight decay of matrices; norms and biases have none.
        max_grad_norm: gradients with a larger norm are scaled down to it.
    """

    lr: float = 1e-4
    warmup: float = 0.05
    decay: Literal["constant", "linear", "cosine"] = "linear"
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        for name in ("lr", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0, got {getattr(self, name)}; else the model does not learn")
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"warmup is a share of all steps in [0, 1), got {self.warmup}")

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.AdamW:
        """Return a torch optimizer over two groups: matrices, with weight decay, and the rest."""
        matrices: list[torch.nn.Parameter] = []
        others: list[torch.nn.Parameter] = []
        for parameter in parameters:
            (matrices if parameter.ndim >= 2 else others).append(parameter)
        return self.build_groups(matrices, others)

    def build_groups(self, matrices: Sequence[torch.nn.Parameter], others: Sequence[torch.nn.Parameter]) -> torch.optim.AdamW:
        """Return a torch optimizer over matrices, with weight decay, and others, without."""
        groups = [{"params": list(matrices), "weight_decay": self.weight_decay}, {"params": list(others), "weight_decay": 0.0}]
        return torch.optim.AdamW([g for g in groups if g["params"]], lr=self.lr, betas=self.betas, eps=self.eps, fused=True)

    def lr_at(self, step: int, total_steps: int) -> float:
        """Return the learning rate of step `step` (counted from 0) of `total_steps`."""
        rise = self.warmup * total_steps
        if step + 1 <= rise:
            return self.lr * (step + 1) / rise
        left = (total_steps - step) / max(total_steps - rise, 1)
        match self.decay:
            case "constant":
                return self.lr
            case "linear":
                return self.lr * min(1.0, left)
            case "cosine":
                return self.lr * 0.5 * (1 - math.cos(math.pi * min(1.0, left)))

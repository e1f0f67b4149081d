"""How weights are moved: AdamW with clipping and a learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch

from palate.core import ConfigError


@dataclass(frozen=True)
class AdamW:
    """AdamW, gradient clipping and schedule.

    Attributes:
        lr: highest learning rate.
        warmup: share of all steps over which the learning rate rises from 0.
        decay: what follows the rise: constant, or down to zero along a line or a half cosine.
        betas: decay of the running means of gradient and squared gradient.
        eps: added to the root of the squared gradient; 1e-5 is customary for PPO (Huang et al. 2024).
        weight_decay: decoupled; applied to matrices, not to norms and biases.
        max_grad_norm: gradients longer than this are scaled down to it.
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
                raise ConfigError(f"{name} must be above 0, got {getattr(self, name)}: nothing would be learned")
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"warmup is a share of all steps in [0, 1), got {self.warmup}")

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.AdamW:
        """A torch optimizer over two groups: matrices (decayed) and the rest."""
        matrices: list[torch.nn.Parameter] = []
        others: list[torch.nn.Parameter] = []
        for parameter in parameters:
            (matrices if parameter.ndim >= 2 else others).append(parameter)
        groups = [{"params": matrices, "weight_decay": self.weight_decay}, {"params": others, "weight_decay": 0.0}]
        return torch.optim.AdamW([g for g in groups if g["params"]], lr=self.lr, betas=self.betas, eps=self.eps, fused=True)

    def lr_at(self, step: int, total_steps: int) -> float:
        """Learning rate of step `step` (from 0) of `total_steps`."""
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

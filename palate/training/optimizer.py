"""The optimizer: AdamW with gradient clipping and a learning-rate schedule, its state in float32 or in 8 bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from palate.core import ConfigError
from palate.distributed.ranks import ranks
from palate.models.four_bit import bitsandbytes

KEYS = {"float32": ("step", "exp_avg", "exp_avg_sq"), "8bit": ("step", "state1", "state2", "absmax1", "absmax2")}
"""What the optimizer holds for a weight, by the type of its state."""


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
        state: the type of the two running means. 8bit needs 2 bytes per trained weight instead of 8 (Dettmers et al. 2022), and
            `palate[quant]`; weights of fewer than 4,096 numbers keep float32. paged_8bit also moves them out of a GPU that is full.
    """

    lr: float = 1e-4
    warmup: float = 0.05
    decay: Literal["constant", "linear", "cosine"] = "linear"
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    state: Literal["float32", "8bit", "paged_8bit"] = "float32"

    def __post_init__(self) -> None:
        for name in ("lr", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0, got {getattr(self, name)}; else the model does not learn")
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"warmup is a share of all steps in [0, 1), got {self.warmup}")

    def check(self) -> None:
        """Raise ConfigError when the state cannot be held in 8 bits here."""
        if self.state == "float32":
            return
        bitsandbytes(f"optimizer.state {self.state}")
        if ranks().world > 1:
            raise ConfigError(
                f"optimizer.state is {self.state}, which one process alone can do. With {ranks().world} ranks each holds only its slice "
                "of the state: set optimizer.state to float32"
            )

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """Return an optimizer over two groups: matrices, with weight decay, and the rest."""
        matrices: list[torch.nn.Parameter] = []
        others: list[torch.nn.Parameter] = []
        for parameter in parameters:
            (matrices if parameter.ndim >= 2 else others).append(parameter)
        return self.build_groups(matrices, others)

    def build_groups(self, matrices: Sequence[torch.nn.Parameter], others: Sequence[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """Return an optimizer over matrices, with weight decay, and others, without.

        Raises:
            ConfigError: as `check`.
        """
        self.check()
        both = [{"params": list(matrices), "weight_decay": self.weight_decay}, {"params": list(others), "weight_decay": 0.0}]
        groups = [group for group in both if group["params"]]
        if self.state == "float32":
            return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=True)
        is_paged = self.state == "paged_8bit" and (*matrices, *others)[0].device.type == "cuda"  # a CPU has nowhere to move them to
        made: torch.optim.Optimizer = bitsandbytes(f"optimizer.state {self.state}").optim.AdamW8bit(
            groups, lr=self.lr, betas=self.betas, eps=self.eps, is_paged=is_paged
        )
        return made

    def state_of(self, optimizer: torch.optim.Optimizer, weight: torch.nn.Parameter) -> Mapping[str, Tensor]:
        """Return what a checkpoint holds of the optimizer's state for a weight, by key; nothing before its first step."""
        state = optimizer.state.get(weight, {})
        return {key: torch.as_tensor(state[key]) for key in self._keys if key in state}

    def restore_state(self, optimizer: Any, weight: torch.nn.Parameter, held: Callable[[str], Tensor | None]) -> None:
        """Give a weight the state that `state_of` returned, by key; without any, it has had no step."""
        state = {key: value for key in self._keys if (value := held(key)) is not None}
        optimizer.state.pop(weight, None)
        if state and self.state == "float32":
            optimizer.state[weight] = {key: value.to(weight.device) for key, value in state.items()}
        elif state:
            group, place = next((g, p) for g, one in enumerate(optimizer.param_groups) for p, w in enumerate(one["params"]) if w is weight)
            optimizer.init_state(optimizer.param_groups[group], weight, group, place)  # also the tables of 8-bit values
            own = optimizer.state[weight]
            own["step"] = int(state.pop("step"))
            for key, value in state.items():
                own[key].copy_(value)

    @property
    def _keys(self) -> tuple[str, ...]:
        return KEYS["float32" if self.state == "float32" else "8bit"]

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

"""The learner: adds gradients over micro-batches, divides once, clips, steps; saves and restores itself exactly.

Weights, gradients over a batch and the optimizer's state are float32 whatever the forward pass computes in. In bfloat16 a
weight keeps 8 bits, and a step smaller than 1/256 of it would be rounded away: so the modules get copies to compute with,
and steps move the float32 weights behind them. A copy follows from its weight, so only the latter is saved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from palate.core import RunError, TrainingError
from palate.objectives.reduce import MAXIMUM, Sums, Totals
from palate.training.checkpoint import load_checkpoint, save_checkpoint
from palate.training.optimizer import AdamW

B = TypeVar("B")


class NotFiniteError(TrainingError):
    """A loss or gradient is NaN or infinite; the step was not taken."""


def statistics(totals: Totals) -> dict[str, float]:
    """Metrics as `thing/mean`, or `thing/max` for those that keep the maximum."""
    return {f"{name.removesuffix(MAXIMUM)}/{'max' if name.endswith(MAXIMUM) else 'mean'}": value for name, value in totals.means().items()}


class Learner:
    """Moves the weights of one or more modules (say a policy and its value model) with one optimizer.

    Losses come as sums over micro-batches; the gradient is divided by the summed count once, after the last of them,
    so that any split of a batch gives the same step.
    """

    def __init__(self, modules: Mapping[str, nn.Module], optimizer: AdamW, total_steps: int, *, dtype: torch.dtype = torch.float32) -> None:
        """From now on `modules` (in float32) compute in `dtype`; what learns is their parameters that require a gradient."""
        self.modules = dict(modules)
        self.total_steps = total_steps
        self.steps_done = 0
        self._config = optimizer
        self._used = {
            f"{name}.{key}": p for name, module in self.modules.items() for key, p in module.named_parameters() if p.requires_grad
        }
        """The modules' own parameters."""
        self._parameters = dict(self._used)
        """The float32 weights that steps move: the same objects, unless the modules compute in another type."""
        if dtype != torch.float32:
            self._parameters = {name: nn.Parameter(p.detach().clone()) for name, p in self._used.items()}
            for module in self.modules.values():
                for p in module.parameters():
                    p.data = p.data.to(dtype)
        self._optimizer = optimizer.build(self._parameters.values())

    def step(self, batches: Iterable[B], loss: Callable[[B], Sums]) -> dict[str, float]:
        """One optimizer step over `batches`; returns means of the losses' metrics, the gradient's norm and the rate.

        Raises:
            NotFiniteError: the loss or the gradient is not finite; the weights stay as they were.
            TrainingError: nothing in the batches counts.
        """
        self._optimizer.zero_grad(set_to_none=True)
        totals, total, count = Totals(), 0.0, 0.0
        for batch in batches:
            sums = loss(batch)
            if sums.loss.requires_grad:
                sums.loss.backward()
                self._gather_gradients()
            totals.add(sums)
            total, count = total + float(sums.loss.detach()), count + float(sums.count)
        if count <= 0:
            raise TrainingError(
                f"step {self.steps_done}: the batch has nothing to learn from (count {count}); look at the data's masks and weights"
            )
        gradients = [p.grad for p in self._parameters.values() if p.grad is not None]
        for gradient in gradients:
            gradient.div_(count)
        norm = float(nn.utils.clip_grad_norm_(list(self._parameters.values()), self._config.max_grad_norm))
        if not math.isfinite(total) or not math.isfinite(norm):
            raise NotFiniteError(
                f"step {self.steps_done}: the loss is {total / count} and the gradient's norm {norm}; the weights were left as they were. "
                f"Lower the learning rate (now {self._lr():.3g}) or look for broken rows among this step's examples"
            )
        lr = self._lr()
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.step()
        self._use_weights()
        self.steps_done += 1
        return {**statistics(totals), "gradient/norm": norm, "learning_rate/value": lr}

    def release(self) -> None:
        """The modules hold what was learned, in float32 (their frozen parameters keep what `dtype` left of them); training is over."""
        for module in self.modules.values():
            for p in module.parameters():
                p.data = p.data.float()
        for name, p in self._used.items():
            p.data = self._parameters[name].data

    def _lr(self) -> float:
        return self._config.lr_at(self.steps_done, self.total_steps)

    def _gather_gradients(self) -> None:
        """Adds a micro-batch's gradients to the float32 ones."""
        for name, p in self._used.items():
            weight = self._parameters[name]
            if weight is not p and p.grad is not None:
                weight.grad = p.grad.float() if weight.grad is None else weight.grad.add_(p.grad)
                p.grad = None

    def _use_weights(self) -> None:
        """The modules compute with the weights as they are now."""
        with torch.no_grad():
            for name, p in self._used.items():
                if self._parameters[name] is not p:
                    p.copy_(self._parameters[name])

    def save(self, directory: Path, numbers: Mapping[str, object]) -> None:
        """Writes weights, optimizer state and the caller's `numbers` (JSON) as one checkpoint."""
        tensors = {f"weights.{name}": p for name, p in self._parameters.items()}
        for name, p in self._parameters.items():
            for key, value in self._optimizer.state.get(p, {}).items():
                tensors[f"optimizer.{key}.{name}"] = value
        save_checkpoint(directory, tensors, {"steps_done": self.steps_done, **numbers})

    def load(self, directory: Path) -> dict[str, object] | None:
        """Restores the last checkpoint and returns its numbers, or None where there is none.

        Raises:
            RunError: it is of another model: other names or shapes.
        """
        found = load_checkpoint(directory)
        if found is None:
            return None
        tensors, numbers = found
        saved = {name.removeprefix("weights."): tuple(x.shape) for name, x in tensors.items() if name.startswith("weights.")}
        wanted = {name: tuple(p.shape) for name, p in self._parameters.items()}
        if saved != wanted:
            name = next(name for name in (*wanted, *saved) if saved.get(name) != wanted.get(name))
            told = [f"{shape[name]}" if name in shape else "missing" for shape in (saved, wanted)]
            raise RunError(
                f"the checkpoint {directory} is of another model: {name} is {told[0]} in it and {told[1]} in the model. "
                "Remove it, or use another run directory"
            )
        with torch.no_grad():
            for name, p in self._parameters.items():
                p.copy_(tensors[f"weights.{name}"])
                state = {
                    key: tensors[f"optimizer.{key}.{name}"]
                    for key in ("step", "exp_avg", "exp_avg_sq")
                    if f"optimizer.{key}.{name}" in tensors
                }
                if state:
                    self._optimizer.state[p] = state
        self._use_weights()
        self.steps_done = int(str(numbers["steps_done"]))
        return numbers

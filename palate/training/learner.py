"""The learner adds gradients over micro-batches, divides once, clips and steps; and its checkpoints.

Weights, gradients over a batch and the optimizer's state are float32, whatever type the forward pass computes in. A bfloat16 weight
keeps 8 bits, so a step smaller than 1/256 of it would be rounded away. Therefore the modules compute with copies, and steps move the
float32 weights behind them. A copy follows from its weight, so only the weight is saved.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from palate.core import RunError, TrainingError
from palate.objectives.reduce import MAXIMUM, Sums, Totals
from palate.training.optimizer import AdamW

B = TypeVar("B")

NO_SPACE = 28
"""The error number of a full disk."""


class NotFiniteError(TrainingError):
    """A loss or gradient is not finite, so the step was not taken."""


def statistics(totals: Totals) -> dict[str, float]:
    """Return metrics as `thing/mean`, or as `thing/max` where the maximum is kept."""
    return {f"{name.removesuffix(MAXIMUM)}/{'max' if name.endswith(MAXIMUM) else 'mean'}": value for name, value in totals.means().items()}


class Learner:
    """Moves the weights of one or more modules, such as a policy and its value model, with one optimizer.

    Losses are sums over micro-batches. The gradient is divided once by the summed count, after the last micro-batch, so that any split
    of a batch gives the same step.
    """

    def __init__(self, modules: Mapping[str, nn.Module], optimizer: AdamW, total_steps: int, *, dtype: torch.dtype = torch.float32) -> None:
        """Make the float32 `modules` compute in `dtype`; their parameters that require a gradient will learn."""
        self.modules = dict(modules)
        self.total_steps = total_steps
        self.steps_done = 0
        self._config = optimizer
        self._used = {
            f"{name}.{key}": p for name, module in self.modules.items() for key, p in module.named_parameters() if p.requires_grad
        }
        """The modules' own parameters."""
        self._parameters = dict(self._used)
        """The float32 weights that steps move; the same objects, unless the modules compute in another type."""
        if dtype != torch.float32:
            self._parameters = {name: nn.Parameter(p.detach().clone()) for name, p in self._used.items()}
            for module in self.modules.values():
                for p in module.parameters():
                    p.data = p.data.to(dtype)
        self._optimizer = optimizer.build(self._parameters.values())

    def step(self, batches: Iterable[B], loss: Callable[[B], Sums]) -> dict[str, float]:
        """Take one optimizer step over `batches`, and return the metrics' means, the gradient's norm and the learning rate.

        Raises:
            NotFiniteError: the loss or the gradient is not finite; the weights stay as they were.
            TrainingError: the count of the batches is 0.
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
                f"step {self.steps_done}: the batch has nothing to learn from (count {count}); check the data's masks and weights"
            )
        gradients = [p.grad for p in self._parameters.values() if p.grad is not None]
        for gradient in gradients:
            gradient.div_(count)
        norm = float(nn.utils.clip_grad_norm_(list(self._parameters.values()), self._config.max_grad_norm))
        if not math.isfinite(total) or not math.isfinite(norm):
            raise NotFiniteError(
                f"step {self.steps_done}: the loss is {total / count} and the gradient's norm {norm}; the weights did not change. "
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
        """End training: the modules hold the learned weights in float32. Frozen parameters keep the precision of `dtype`."""
        for module in self.modules.values():
            for p in module.parameters():
                p.data = p.data.float()
        for name, p in self._used.items():
            p.data = self._parameters[name].data

    def _lr(self) -> float:
        return self._config.lr_at(self.steps_done, self.total_steps)

    def _gather_gradients(self) -> None:
        """Add a micro-batch's gradients to the float32 ones."""
        for name, p in self._used.items():
            weight = self._parameters[name]
            if weight is not p and p.grad is not None:
                weight.grad = p.grad.float() if weight.grad is None else weight.grad.add_(p.grad)
                p.grad = None

    def _use_weights(self) -> None:
        """Copy the weights as they are now into the modules."""
        with torch.no_grad():
            for name, p in self._used.items():
                if self._parameters[name] is not p:
                    p.copy_(self._parameters[name])

    def save(self, directory: Path, numbers: Mapping[str, object]) -> None:
        """Write weights, optimizer state and the caller's `numbers` (JSON) as one checkpoint."""
        tensors = {f"weights.{name}": p for name, p in self._parameters.items()}
        for name, p in self._parameters.items():
            for key, value in self._optimizer.state.get(p, {}).items():
                tensors[f"optimizer.{key}.{name}"] = value
        save_checkpoint(directory, tensors, {"steps_done": self.steps_done, **numbers})

    def load(self, directory: Path) -> dict[str, object] | None:
        """Restore the last checkpoint and return its numbers, or None where there is none.

        Raises:
            RunError: the checkpoint belongs to a model with other names or shapes.
        """
        checkpoint = load_checkpoint(directory)
        if checkpoint is None:
            return None
        tensors, numbers = checkpoint
        saved = {name.removeprefix("weights."): tuple(x.shape) for name, x in tensors.items() if name.startswith("weights.")}
        wanted = {name: tuple(p.shape) for name, p in self._parameters.items()}
        if saved != wanted:
            name = next(name for name in (*wanted, *saved) if saved.get(name) != wanted.get(name))
            shapes = [f"{shape[name]}" if name in shape else "missing" for shape in (saved, wanted)]
            raise RunError(
                f"the checkpoint {directory} belongs to another model: {name} is {shapes[0]} in it and {shapes[1]} in the model. "
                "Remove it, or use another run directory"
            )
        with torch.no_grad():
            for name, p in self._parameters.items():
                p.copy_(tensors[f"weights.{name}"])
                state = {
                    key: tensors[f"optimizer.{key}.{name}"].to(p.device)
                    for key in ("step", "exp_avg", "exp_avg_sq")
                    if f"optimizer.{key}.{name}" in tensors
                }
                if state:
                    self._optimizer.state[p] = state
        self._use_weights()
        self.steps_done = int(str(numbers["steps_done"]))
        return numbers


def save_checkpoint(directory: Path, tensors: Mapping[str, torch.Tensor], numbers: Mapping[str, object]) -> None:
    """Replace the checkpoint in `directory` by a rename, so that a kill at any moment leaves the old or the new one, whole.

    Tensors are written as safetensors, numbers as JSON.

    Raises:
        RunError: the disk is full; the checkpoint before stays.
    """
    new, old = directory.with_name(directory.name + ".new"), directory.with_name(directory.name + ".old")
    try:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, new / "tensors.safetensors")
        (new / "numbers.json").write_text(json.dumps(numbers))
    except OSError as error:
        shutil.rmtree(new, ignore_errors=True)
        if error.errno == NO_SPACE:
            raise RunError(
                f"no space left on the disk for the checkpoint {directory}; the one before it is kept. Free space and run the same command"
            ) from error
        raise
    except Exception as error:  # safetensors reports a full disk as an error of its own
        shutil.rmtree(new, ignore_errors=True)
        if "os error 28" in str(error).lower() or "no space" in str(error).lower():
            raise RunError(
                f"no space left on the disk for the checkpoint {directory}; the one before it is kept. Free space and run the same command"
            ) from error
        raise
    if directory.exists():
        shutil.rmtree(old, ignore_errors=True)  # left by a kill after the second rename; a rename onto it would fail
        directory.replace(old)
    new.replace(directory)
    shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(directory: Path) -> tuple[dict[str, torch.Tensor], dict[str, object]] | None:
    """Return tensors and numbers of the last whole checkpoint, or None where there is none."""
    old = directory.with_name(directory.name + ".old")
    if not directory.exists() and old.exists():  # killed between the two renames
        old.replace(directory)
    if not directory.exists():
        return None
    return load_file(directory / "tensors.safetensors"), json.loads((directory / "numbers.json").read_text())

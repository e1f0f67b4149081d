"""The learner adds gradients over micro-batches, divides once, clips and steps; and its checkpoints.

Weights, gradients over a batch and the optimizer's state are float32, whatever type the forward pass computes in. A bfloat16 weight
keeps 8 bits, so a step smaller than 1/256 of it would be rounded away. Therefore the modules compute with copies, and steps move the
float32 weights behind them. A copy follows from its weight, so only the weight is saved.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from palate.core import OUT_OF_SPACE, RunError, TrainingError
from palate.core.process import ALL, shard_now
from palate.distributed.ranks import ranks
from palate.distributed.sharing import mine, rejoined
from palate.distributed.windows import windows
from palate.models.devices import current_device
from palate.models.shared_layers import cast_parameters, share_out
from palate.models.tensor_files import save_tensors
from palate.objectives.reduce import Sums, Totals
from palate.training.loss_scale import LossScale
from palate.training.optimizer import AdamW
from palate.training.sliced_weights import SlicedWeights
from palate.training.source_losses import statistics
from palate.training.whole_weights import WholeWeights

B = TypeVar("B")


class NotFiniteError(TrainingError):
    """A loss or gradient is not finite, so the step was not taken."""


class Learner:
    """Moves the weights of one or more modules, such as a policy and its value model, with one optimizer.

    Losses are sums over micro-batches. The gradient is divided once by the summed count, after the last micro-batch, so that any split
    of a batch gives the same step.
    """

    def __init__(self, modules: Mapping[str, nn.Module], optimizer: AdamW, total_steps: int, *, dtype: torch.dtype = torch.float32) -> None:
        """Make the float32 `modules` compute in `dtype`; their parameters that require a gradient will learn.

        Where ranks share out weights that learn, they share out those of modules that learn as a whole.
        """
        self.modules = dict(modules)
        self.total_steps = total_steps
        self.steps_done = 0
        self._config = optimizer
        self._group = ranks()
        self._used = {
            f"{name}.{key}": p for name, module in self.modules.items() for key, p in module.named_parameters() if p.requires_grad
        }
        """The modules' own parameters."""
        self._scale = LossScale(dtype)
        sharing = windows()
        self._weights: WholeWeights | SlicedWeights
        if self._group.world == 1:
            self._weights = WholeWeights(self._used, optimizer, dtype)
        else:
            device = next(iter(self._used.values())).device if sharing is None else current_device()
            self._weights = SlicedWeights(self._used, optimizer, self._group, device)
        if dtype != torch.float32:
            for module in self.modules.values():
                cast_parameters(module, dtype)
        for module in self.modules.values():
            # Models from files are shared out already. This is for new ones; small weights that learn beside frozen ones stay whole.
            if shard_now().kind == ALL and all(p.requires_grad for p in module.parameters()):
                share_out(module, sharing)
        self._weights.watch()

    def step(self, batches: Iterable[B], loss: Callable[[B], Sums]) -> dict[str, float]:
        """Take one optimizer step over `batches`, and return the metrics' means, the gradient's norm and the learning rate.

        Several ranks are given the same batches, and each computes its share of them.

        Raises:
            NotFiniteError: the loss or the gradient is not finite; the weights stay as they were.
            TrainingError: the count of the batches is 0.
        """
        parts = list(batches) if self._scale.may_repeat else batches
        while True:
            totals, total, count = self._summed(self._backward(parts, loss))
            norm = self._weights.divide_and_clip(count * self._scale.factor, self._config.max_grad_norm)
            if not self._scale.must_repeat(total, norm):
                break
        if not math.isfinite(total) or not math.isfinite(norm):
            raise NotFiniteError(
                f"step {self.steps_done}: the loss is {total / count} and the gradient's norm {norm}; the weights did not change. "
                f"Lower the learning rate (now {self._lr():.3g}) or look for broken rows among this step's examples{self._scale.remedy}"
            )
        lr = self._lr()
        for group in self._weights.optimizer.param_groups:
            group["lr"] = lr
        self._weights.optimizer.step()
        self._weights.use()
        self.steps_done += 1
        return {**statistics(totals), "gradient/norm": norm, "learning_rate/value": lr}

    def _summed(self, measured: Sequence[Sums]) -> tuple[Totals, float, float]:
        """Return the metrics, the loss and the count of all micro-batches together.

        Raises:
            TrainingError: the count is 0.
        """
        totals, total, count = Totals(), 0.0, 0.0
        for sums in measured:
            totals.add(sums)
            total, count = total + float(sums.loss), count + float(sums.count)
        if count <= 0:
            raise TrainingError(
                f"step {self.steps_done}: the batch has nothing to learn from (count {count}); check the data's masks and weights"
            )
        return totals, total, count

    def _backward(self, batches: Iterable[B], loss: Callable[[B], Sums]) -> list[Sums]:
        """Add up the gradients of all batches, and return the loss and the metrics of each."""
        self._weights.start()
        measured = []
        if self._group.world == 1:
            for batch in batches:  # one after another, because each may be packed when it is asked for
                measured.append(self._one_backward(batch, loss))
                self._weights.gather()
            return measured
        parts = list(batches)
        own = mine(parts)
        for _ in range(-(-len(parts) // self._group.world)):
            measured += [self._one_backward(batch, loss) for batch in islice(own, 1)]  # none is left where the shares are uneven
            self._weights.gather()
        return rejoined(measured)

    def _one_backward(self, batch: B, loss: Callable[[B], Sums]) -> Sums:
        """Compute the gradient of a micro-batch, and return its loss and metrics without one."""
        sums = loss(batch)
        if sums.loss.requires_grad:
            (sums.loss * self._scale.factor).backward()
        return replace(sums, loss=sums.loss.detach())

    def release(self) -> None:
        """End training: the modules hold the learned weights in float32. Frozen ones keep the precision of `dtype`, or their 4 bits."""
        for module in self.modules.values():
            cast_parameters(module, torch.float32)
        self._weights.release()

    def _lr(self) -> float:
        return self._config.lr_at(self.steps_done, self.total_steps)

    def save(self, directory: Path, numbers: Mapping[str, object]) -> None:
        """Write weights, optimizer state and the caller's `numbers` (JSON) as one checkpoint, which any number of ranks can load."""
        tensors = self._weights.tensors()
        if self._group.is_writer:
            save_checkpoint(directory, tensors, {"steps_done": self.steps_done, **self._scale.state(), **numbers})

    def load(self, directory: Path) -> dict[str, object] | None:
        """Restore the last checkpoint and return its numbers, or None where there is none.

        Raises:
            RunError: the checkpoint belongs to a model with other names or shapes.
        """
        checkpoint = load_checkpoint(directory) if self._group.is_writer else None
        if checkpoint is not None:
            self._require_same_model(directory, checkpoint[0])
        tensors, own = checkpoint or ({}, None)
        numbers: dict[str, object] | None = self._group.broadcast(own)
        if numbers is None:
            return None
        self._weights.restore(tensors.get)
        self.steps_done = int(str(numbers["steps_done"]))
        self._scale.restore(numbers)
        return numbers

    def _require_same_model(self, directory: Path, tensors: Mapping[str, torch.Tensor]) -> None:
        """Raise RunError where a checkpoint has other names or shapes."""
        saved = {name.removeprefix("weights."): tuple(x.shape) for name, x in tensors.items() if name.startswith("weights.")}
        wanted = {name: tuple(p.shape) for name, p in self._used.items()}
        if saved != wanted:
            name = next(name for name in (*wanted, *saved) if saved.get(name) != wanted.get(name))
            shapes = [f"{shape[name]}" if name in shape else "missing" for shape in (saved, wanted)]
            raise RunError(
                f"the checkpoint {directory} belongs to another model: {name} is {shapes[0]} in it and {shapes[1]} in the model. "
                "Remove it, or use another run directory"
            )


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
        save_tensors(tensors, new / "tensors.safetensors")
        (new / "numbers.json").write_text(json.dumps(numbers))
        for path in (*new.iterdir(), new):
            _sync(path)  # before the rename, so that a machine that goes down does not leave half of a file behind the new name
    except Exception as error:
        shutil.rmtree(new, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in OUT_OF_SPACE:
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
    """Return tensors and numbers of the last whole checkpoint, or None where there is none.

    Raises:
        RunError: a file is missing or damaged.
    """
    old = directory.with_name(directory.name + ".old")
    if not directory.exists() and old.exists():  # killed between the two renames
        old.replace(directory)
    if not directory.exists():
        return None
    try:
        return load_file(directory / "tensors.safetensors"), json.loads((directory / "numbers.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, SafetensorError) as error:
        raise RunError(
            f"the checkpoint {directory} is damaged ({type(error).__name__}: {error}). Put a whole copy of it back, or use "
            "--fresh to begin again"
        ) from error


def _sync(path: Path) -> None:
    """Let what was written to a file or folder reach the disk."""
    if sys.platform == "win32":
        return
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)

"""The float32 weights that optimizer steps move, of a process that works alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from palate.training.optimizer import AdamW


class WholeWeights:
    """The float32 weights behind the modules' own parameters, and their optimizer.

    They are the same objects, unless the modules compute in a narrower type: then the modules hold copies.
    """

    def __init__(self, used: Mapping[str, nn.Parameter], optimizer: AdamW, dtype: torch.dtype) -> None:
        """Take the modules' float32 parameters `used`, by name, which are to compute in `dtype`."""
        self._used = dict(used)
        self._weights = dict(used)
        if dtype != torch.float32:
            self._weights = {name: nn.Parameter(p.detach().clone()) for name, p in used.items()}
        self._config = optimizer
        self.optimizer = optimizer.build(self._weights.values())

    def start(self) -> None:
        """Forget the gradient of the step before."""
        self.optimizer.zero_grad(set_to_none=True)

    def gather(self) -> None:
        """Add a micro-batch's gradients to the float32 ones."""
        for name, p in self._used.items():
            weight = self._weights[name]
            if weight is not p and p.grad is not None:
                weight.grad = p.grad.float() if weight.grad is None else weight.grad.add_(p.grad)
                p.grad = None

    def divide_and_clip(self, count: float, most: float) -> float:
        """Divide the gradient by `count`, shorten it to a norm of at most `most`, and return the norm that it had."""
        if gradients := [weight.grad for weight in self._weights.values() if weight.grad is not None]:
            torch._foreach_div_(gradients, count)
        return float(nn.utils.clip_grad_norm_(list(self._weights.values()), most))

    def use(self) -> None:
        """Copy the weights as they are now into the modules."""
        copies = [(p, self._weights[name]) for name, p in self._used.items() if self._weights[name] is not p]
        if copies:
            with torch.no_grad():
                torch._foreach_copy_([copy for copy, _ in copies], [weight for _, weight in copies])

    def watch(self) -> None:
        """Do nothing: gradients stay where the backward pass leaves them."""

    def release(self) -> None:
        """Give the modules the float32 weights themselves."""
        for name, weight in self._weights.items():
            self._used[name].data = weight.data

    def tensors(self) -> dict[str, Tensor]:
        """Return weights and optimizer state by the names of a checkpoint."""
        tensors = {f"weights.{name}": weight.data for name, weight in self._weights.items()}
        for name, weight in self._weights.items():
            for key, value in self._config.state_of(self.optimizer, weight).items():
                tensors[f"optimizer.{key}.{name}"] = value
        return tensors

    def restore(self, tensor: Callable[[str], Tensor | None]) -> None:
        """Take weights and optimizer state from a checkpoint, which gives None for what it does not hold."""
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(_known(tensor(f"weights.{name}")))
                self._config.restore_state(self.optimizer, weight, lambda key, name=name: tensor(f"optimizer.{key}.{name}"))  # type: ignore[misc]
        self.use()


def _known(tensor: Tensor | None) -> Tensor:
    assert tensor is not None, "the names of a checkpoint are compared before"
    return tensor

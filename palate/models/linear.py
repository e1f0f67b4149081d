"""Linear layers of a Hugging Face module computed the fastest exact way this processor has."""

from __future__ import annotations

from torch import Tensor, nn

from palate.objectives.cpu_products import convolves, linear


class FastLinear(nn.Linear):
    """A linear layer in everything but how its product is computed; see `palate.objectives.cpu_products`."""

    def forward(self, x: Tensor) -> Tensor:
        """`x @ weight.T + bias`."""
        return linear(x, self.weight, self.bias)


PLAIN = (nn.Linear, FastLinear)
"""Layers that compute a linear layer's product and nothing else."""


def use_fast_products(module: nn.Module) -> None:
    """Nothing; the module's linear layers are `FastLinear` from now on, where that pays. Names, weights and files stay as they were."""
    if convolves():
        for layer in module.modules():
            if type(layer) is nn.Linear:
                layer.__class__ = FastLinear

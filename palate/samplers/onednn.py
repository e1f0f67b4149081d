"""Matrix products with weights that stay the same for many tokens; on a CPU by oneDNN, with weights packed for it beforehand.

torch computes a float32 product on a CPU with MKL, which uses half of the vector width of processors of other makers than Intel. There
oneDNN is 2 to 2.5 times as fast at 8 rows and more (`python -m benchmarks.sampling` prints both rates). Its products are as exact, and the
result of a row does not depend on the number of rows beside it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

Delta = tuple[Tensor, Tensor, float]
"""Inner matrix (r, d), outer matrix (n, r) and scale of a low-rank change to a weight (n, d)."""

_NARROW, _FINE, _COARSE = 64, 8, 64
"""Rows are filled up to a multiple of 8, or of 64 above 64 rows, because oneDNN takes 1 to 2 ms to compile a kernel for each number."""


@dataclass(frozen=True)
class Weight:
    """A weight (n, d), plain or packed, that multiplies rows (b, d) by its transpose."""

    matrix: Tensor
    bias: Tensor | None
    is_packed: bool

    @staticmethod
    def of(matrix: Tensor, bias: Tensor | None = None) -> Weight:
        """Return the weight, packed where that is faster; a packed weight is a copy that does not follow later changes of `matrix`."""
        if not packs(matrix.device, matrix.dtype):
            return Weight(matrix, bias, is_packed=False)
        return Weight(torch.ops.mkldnn._reorder_linear_weight(matrix.contiguous(), None), bias, is_packed=True)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the product (b, n) of x (b, d), plus the bias, in the weight's dtype."""
        x = x.to(self.matrix.dtype)
        if not self.is_packed:
            return linear(x, self.matrix, self.bias)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.matrix, self.bias, "none", [], "")
        return product


@dataclass(frozen=True)
class Product:
    """One or more linear layers with the same input, side by side, with their low-rank changes as separate products.

    Merging a small change into a bfloat16 weight would round most of it away.
    """

    weight: Weight
    inner: Weight | None
    outer: Weight | None

    @staticmethod
    def of(matrices: Sequence[Tensor], biases: Sequence[Tensor | None], deltas: Sequence[Sequence[Delta]]) -> Product:
        """Return the product of layers with these matrices (n, d), biases (n,) and changes; their outputs follow each other in a row."""
        bias = None
        if any(b is not None for b in biases):
            bias = torch.cat([m.new_zeros(len(m)) if b is None else b for m, b in zip(matrices, biases, strict=True)])
        weight = Weight.of(torch.cat(list(matrices)), bias)
        inner = [a for changes in deltas for a, _, _ in changes]
        if not inner:
            return Product(weight, None, None)
        outer = [torch.cat([b * scale for _, b, scale in changes], 1) if changes else None for changes in deltas]
        blocks = [inner[0].new_zeros(len(m), 0) if b is None else b for m, b in zip(matrices, outer, strict=True)]
        return Product(weight, Weight.of(torch.cat(inner)), Weight.of(torch.block_diag(*blocks)))

    def __call__(self, x: Tensor) -> Tensor:
        """Return outputs (b, n) for x (b, d)."""
        product = self.weight(x)
        if self.inner is None or self.outer is None:
            return product
        return product.add_(self.outer(self.inner(x)))


def filled(rows: int, like: Tensor) -> int:
    """Return the number of rows that a product of `rows` rows should have; the additional rows have no meaning."""
    if not packs(like.device, like.dtype):
        return rows
    step = _FINE if rows <= _NARROW else _COARSE
    return -(-rows // step) * step


def fill(x: Tensor, rows: int) -> Tensor:
    """Return the rows of x (b, d) followed by zeros, (rows, d)."""
    return x if len(x) == rows else pad(x, (0, 0, 0, rows - len(x)))


@functools.cache
def packs(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether products with packed weights work here, tested on a small one."""
    if device.type != "cpu" or dtype not in (torch.float32, torch.bfloat16) or not torch.backends.mkldnn.is_available():
        return False
    matrix = torch.linspace(-1, 1, 16 * 32).view(16, 32).to(dtype)
    x = torch.linspace(-1, 1, 8 * 32).view(8, 32).to(dtype)
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(matrix, None)
        product = torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
    except Exception:  # noqa: BLE001  # whatever a build or a processor without them raises, the plain product works
        return False
    return bool(
        torch.allclose(product.float(), linear(x.float(), matrix.float()), rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-2)
    )

"""Float32 products on a CPU: by convolutions of width one where those are faster.

torch hands a float32 product to MKL, which on processors of other makers than its own keeps to half of their width: 175 GFLOP/s where
oneDNN reaches 350 on the same two cores (a linear layer forward and backward). With one thread torch gives
these convolutions to MKL as well. torch gives convolutions to oneDNN, and a linear
layer is one, of width 1 over its rows. Exact float32 both ways; the order of additions differs.
"""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import conv2d
from torch.nn.functional import linear as plain_linear

WORTH = 1 << 26
"""Multiplications of a product that pays for the code oneDNN makes for each new shape, some 0.5 ms."""


@functools.cache
def convolves() -> bool:
    """Whether convolutions are the faster way here: AVX-512 on a processor that is not Intel's."""
    has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not has_onednn or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and "GenuineIntel" not in cpuinfo.read_text(encoding="utf-8", errors="replace")[:4096]


def keeps_kernels(dtype: torch.dtype, rows: int, width: int) -> bool:
    """Whether products of so many rows by a square weight are oneDNN's: it makes code for each new shape, which had better come again."""
    return dtype.itemsize < 4 or (dtype == torch.float32 and 4 * rows * width**2 >= WORTH and convolves())


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x @ weight.T + bias` (..., n) of x (..., d), weight (n, d) and bias (n,) or None; differentiable as often as torch's."""
    is_float32_on_cpu = x.dtype == weight.dtype == torch.float32 and x.device.type == "cpu"
    if not is_float32_on_cpu or x.numel() * len(weight) < WORTH or torch.get_num_threads() == 1 or not convolves():
        return plain_linear(x, weight, bias)
    rows = x.numel() // x.shape[-1]
    image = x.reshape(1, rows, 1, x.shape[-1]).permute(0, 3, 1, 2)
    return conv2d(image, weight[:, :, None, None], bias).permute(0, 2, 3, 1).reshape(*x.shape[:-1], len(weight))

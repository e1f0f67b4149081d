"""Exact arithmetic at the speed that this CPU has: float32 products by convolution, linear layers that use them, and memory settings.

torch computes a float32 product with MKL. On processors of other makers than Intel, MKL uses half of their vector width: 175 GFLOP/s
where oneDNN reaches 350 on the same two cores (a linear layer, forward and backward). torch computes convolutions with oneDNN, and a
linear layer is a convolution of width 1 over its rows. With one thread torch uses MKL for these convolutions too. Both ways are exact
float32; the order of additions differs.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d
from torch.nn.functional import linear as plain_linear

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # names of glibc's mallopt(3)

_KEPT_KERNELS = 48

WORTH = 1 << 26
"""Multiplications from which a product is worth the 0.5 ms that oneDNN takes to compile a kernel for a new shape."""


@functools.cache
def convolves() -> bool:
    """Return whether convolutions are faster on this machine: it has AVX-512 and is not Intel's."""
    has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not has_onednn or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and "GenuineIntel" not in cpuinfo.read_text(encoding="utf-8", errors="replace")[:4096]


def keeps_kernels(dtype: torch.dtype, rows: int, width: int) -> bool:
    """Return whether oneDNN computes the products of `rows` rows by a square weight of `width`.

    oneDNN compiles a kernel for each new shape, so callers should repeat shapes.
    """
    return dtype.itemsize < 4 or (dtype == torch.float32 and 4 * rows * width**2 >= WORTH and convolves())


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return `x @ weight.T + bias` (..., n) for x (..., d), weight (n, d) and bias (n,) or None; differentiable as often as torch's."""
    is_float32_on_cpu = x.dtype == weight.dtype == torch.float32 and x.device.type == "cpu"
    if not is_float32_on_cpu or x.numel() * len(weight) < WORTH or torch.get_num_threads() == 1 or not convolves():
        return plain_linear(x, weight, bias)
    rows = x.numel() // x.shape[-1]
    image = x.reshape(1, rows, 1, x.shape[-1]).permute(0, 3, 1, 2)
    return conv2d(image, weight[:, :, None, None], bias).permute(0, 2, 3, 1).reshape(*x.shape[:-1], len(weight))


class FastLinear(nn.Linear):
    """A linear layer whose product is computed by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """Return `x @ weight.T + bias`."""
        return linear(x, self.weight, self.bias)


PLAIN = (nn.Linear, FastLinear)
"""Layers that compute the product of a linear layer and nothing else."""


def use_fast_products(module: nn.Module) -> None:
    """Turn the module's linear layers into `FastLinear` where that is faster. Names, weights and files stay as they were."""
    if convolves():
        for layer in module.modules():
            if type(layer) is nn.Linear:
                layer.__class__ = FastLinear


@functools.cache
def keep_few_kernels() -> None:
    """Let oneDNN and torch keep compiled kernels for the last 48 shapes of bfloat16 products; once per process, before the first product.

    By default each keeps 1,024 kernels of about half a megabyte. With other lengths in every step, a run grew by 15 MB per step. A step of
    a few layers meets fewer than 48 shapes between its first layer and the next. Settings in the environment are left as they are.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, str(_KEPT_KERNELS))


@functools.cache
def keep_freed_memory() -> bool:
    """Let large freed blocks stay with the process (glibc), once for the whole process; return whether they do.

    By default glibc returns each large tensor to the kernel when it is freed, and asks for memory again for the next one. The page faults
    cost more than the arithmetic on the tensor: with this setting a training step is about twice as fast.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    settings = ((_MMAP_THRESHOLD, 1 << 30), (_TRIM_THRESHOLD, (1 << 31) - 1), (_TOP_PAD, 64 << 20))
    return all(libc.mallopt(name, value) == 1 for name, value in settings)

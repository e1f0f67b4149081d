"""What the card can do: products by type, copies, and the attention of packed trees with and without the fused kernel."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.results import is_tiny, result
from benchmarks.gpu.work import SHAPES, device, waited
from palate.models.attention import PackedAttention, by_products
from palate.models.fused import fused_attention, takes_kernel, tree_mask
from palate.text.pack import Branch, Tree, pack


def main() -> None:
    """Measure."""
    for name, dtype, is_tf32 in (
        ("bfloat16", torch.bfloat16, False),
        ("float16", torch.float16, False),
        ("float32", torch.float32, False),
        ("tf32", torch.float32, True),
    ):
        torch.set_float32_matmul_precision("high" if is_tf32 else "highest")
        result(f"matmul {name}", tflops=matmul_rate(dtype) / 1e12)
    torch.set_float32_matmul_precision("highest")
    memory()
    for shape in SHAPES:
        attention(shape)


def matmul_rate(dtype: torch.dtype) -> float:
    """Return operations per second of a square product of random numbers."""
    size = 256 if is_tiny() else 8192
    a, b = (torch.randn(size, size, device=device()).to(dtype) for _ in range(2))
    return 2 * size**3 / seconds(lambda: torch.mm(a, b))


def memory() -> None:
    """Measure copies on the card, and to it from pinned memory."""
    numbers = (1 << 20) if is_tiny() else (1 << 30)
    x = torch.ones(numbers, dtype=torch.bfloat16, device=device())
    y = torch.empty_like(x)
    result("copy on the card", tb_per_s=2 * 2 * numbers / seconds(lambda: y.copy_(x)) / 1e12)
    if device().type == "cuda":
        host = torch.ones(numbers // 8, dtype=torch.bfloat16).pin_memory()
        result("copy to the card", tb_per_s=2 * len(host) / seconds(lambda: y[: len(host)].copy_(host, non_blocking=True)) / 1e12)
        free, total = torch.cuda.mem_get_info()
        result("memory", gb_free=free / 1e9, gb=total / 1e9)


def attention(shape: str) -> None:
    """Measure one layer's attention of a batch of pairs, forward and backward, each way that there is; and how far apart they are."""
    config = SHAPES[shape]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    width = config["hidden_size"] // heads
    trees = [Tree((1,) * 150, tuple(Branch((1,) * 100, (True,) * 100) for _ in range(2))) for _ in range(2 if is_tiny() else 40)]
    plan = pack(trees).layout
    places = -(-plan.tokens // 128) * 128
    dtype = torch.float32 if is_tiny() else torch.bfloat16
    sizes = [(1, places, count, width) for count in (heads, kv_heads, kv_heads)]
    inputs = query, key, value = [torch.randn(*size, device=device()).to(dtype).transpose(1, 2) for size in sizes]
    direction = torch.randn(1, places, heads, width, device=device()).to(dtype)
    mask = tree_mask(plan, places, device())
    ways: dict[str, Callable[..., Tensor]] = {
        "products": lambda q, k, v: PackedAttention(plan).by_products(q, k, v, width**-0.5),
        "fused": lambda q, k, v: fused_attention(q, k, v, mask, width**-0.5),
    }
    has_gradient = device().type == "cuda"  # on CPUs flex attention has none
    found: dict[str, list[Tensor]] = {}

    def both(attend: Callable[..., Tensor]) -> list[Tensor]:
        leaves = [x.detach().requires_grad_(has_gradient) for x in inputs]
        out = attend(*leaves)
        return [out.detach(), *(torch.autograd.grad(out, leaves, direction) if has_gradient else ())]

    for name, attend in ways.items():
        began = time.perf_counter()
        found[name] = both(attend)
        waited()
        first = time.perf_counter() - began
        result(f"attention {shape} {name}", tokens=places, ms=1000 * seconds(partial(both, attend)), first_call_s=first)
    result(f"attention {shape} kernel", is_used=takes_kernel(plan.tokens, query, key, value, by_products))
    gap = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(*found.values(), strict=True))
    result(f"attention {shape} relative gap", gap=gap)


def seconds(act: Callable[[], Any], times: int = 5) -> float:
    """Return the median seconds of a call, after two that do not count."""
    found = []
    for _ in range(times + 2):
        waited()
        began = time.perf_counter()
        act()
        waited()
        found.append(time.perf_counter() - began)
    return statistics.median(found[2:])


if __name__ == "__main__":
    main()

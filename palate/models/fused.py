"""Attention of packed trees by one kernel on GPUs: torch's flex attention, with the tree as a mask.

The kernel leaves out blocks of 128 queries and 128 keys that see nothing of each other, so sequences that are packed together cost no more
than apart, and a trunk is read once for all its branches. It is compiled once for each number and width of heads; lengths may change.

Nothing here is chosen for CPUs, where `palate.models.attention` is faster. There torch has a slow version without a kernel, for tests.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from palate.models.devices import moved
from palate.text.attention_plan import AttentionPlan, Ints, Spans, plan_attention

BLOCK = 128
LEAST_TOKENS = 256
"""With fewer tokens the mask costs more than the products."""
LEAST_WIDTH = 16
"""Narrowest heads that the kernel takes."""
KERNELS = 64
"""Kernels that a process may compile: heads of several models, with and without gradient."""
GAP = 0.03
"""Largest difference from the products without the kernel, relative to the largest number; bfloat16 keeps 8 bits."""

Attention = Callable[[AttentionPlan, Tensor, Tensor, Tensor], Tensor]


class FusedAttentionWarning(UserWarning):
    """A GPU computes attention without the fused kernel, which is slower."""


def tree_mask(plan: AttentionPlan, places: int, device: torch.device) -> BlockMask:
    """Return which of `places` tokens sees which, on a device; tokens after the plan's see nothing, and nothing sees them."""
    spans, order = plan.spans, np.argsort(plan.spans.start)

    def of_tokens(of_spans: Ints, padding: int) -> Ints:
        real = np.repeat(of_spans[order], spans.length[order])
        return np.concatenate([real, np.full(places - plan.tokens, padding)])

    first, trunk, trunk_end = (
        of_tokens(column, padding)
        for column, padding in ((spans.start, places), (spans.trunk_start, 0), (spans.trunk_start + spans.trunk, 0))
    )
    # A row per token and a column per block of keys: whether the token sees some key of the block, and whether it sees all.
    low = np.arange(0, places, BLOCK)
    token, own, start, end = (column[:, None] for column in (np.arange(places), first, trunk, trunk_end))
    some = ((own < low + BLOCK) & (token >= low) & (own <= token)) | ((start < low + BLOCK) & (end > low) & (start < end))
    every = ((own <= low) & (token >= low + BLOCK - 1)) | ((start <= low) & (end >= low + BLOCK))
    full = np.logical_and.reduceat(every, low)
    partial, whole = (_listed(chosen, device) for chosen in (np.logical_or.reduceat(some, low) & ~full, full))
    of_query, trunk_from, trunk_to = (moved(torch.from_numpy(x.astype(np.int32)), device) for x in (first, trunk, trunk_end))

    def sees(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return ((key >= of_query[query]) & (key <= query)) | ((key >= trunk_from[query]) & (key < trunk_to[query]))

    return BlockMask.from_kv_blocks(*partial, *whole, BLOCK, sees, (places, places))


def _listed(chosen: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return for each row how many columns are chosen (1, 1, rows), and all columns with the chosen ones first; both int32."""
    counts, columns = chosen.sum(1, dtype=np.int32), np.argsort(~chosen, axis=1, kind="stable").astype(np.int32)
    return moved(torch.from_numpy(counts)[None, None], device), moved(torch.from_numpy(columns)[None, None], device)


def fused_attention(query: Tensor, key: Tensor, value: Tensor, mask: BlockMask, scaling: float) -> Tensor:
    """Return the attention output (1, T, H, D) in the dtype of `value`, as `Attends.attend`; compiled where the tensors are on a GPU."""
    dtype = torch.promote_types(torch.promote_types(query.dtype, key.dtype), value.dtype)
    attention: Any = _compiled() if query.device.type == "cuda" else flex_attention
    is_grouped = query.shape[1] != key.shape[1]
    # The scale is applied before, because a compiled function would be compiled anew for each number that it is given.
    out: Tensor = attention(query.to(dtype) * scaling, key.to(dtype), value.to(dtype), block_mask=mask, scale=1.0, enable_gqa=is_grouped)
    return out.transpose(1, 2).to(value.dtype)


@functools.cache
def _compiled() -> Callable[..., Tensor]:
    """Return flex attention as torch compiles it, for all lengths at once."""
    torch._dynamo.config.recompile_limit = max(KERNELS, torch._dynamo.config.recompile_limit)
    return torch.compile(flex_attention, dynamic=True)  # type: ignore[no-any-return]


def takes_kernel(tokens: int, query: Tensor, key: Tensor, value: Tensor, plain: Attention) -> bool:
    """Return whether the kernel computes attention of these tensors: on a GPU, in a 16-bit type, where it was tried and is right."""
    if query.device.type != "cuda" or tokens < LEAST_TOKENS or query.shape[3] < LEAST_WIDTH:
        return False
    if any(x.dtype not in (torch.bfloat16, torch.float16) for x in (query, key, value)):
        return False
    return _is_right(query.device, query.dtype, (query.shape[1], key.shape[1], query.shape[3]), plain)


@functools.cache
def _is_right(device: torch.device, dtype: torch.dtype, heads: tuple[int, int, int], plain: Attention) -> bool:
    """Compile the kernel for heads (queries, keys, width), and return whether output and gradients equal those of `plain` on a device."""
    try:
        with torch.inference_mode(mode=False), torch.enable_grad():
            gap = max(gap_to(plain, device, dtype, heads, places) for places in (3 * BLOCK, 4 * BLOCK))
        reason = None if gap <= GAP else f"it is off by {gap:.2g} of the largest number"
    except Exception as error:  # noqa: BLE001  # whatever a build without a compiler raises, attention works without the kernel
        reason = f"{type(error).__name__}: {str(error).strip()[:300]}"
    if reason is not None:
        warnings.warn(
            f"attention of packed trees is computed without flex attention on {device}, which is slower and gives the same numbers "
            f"({reason}). Install a torch with Triton, and a C compiler",
            FusedAttentionWarning,
            stacklevel=2,
        )
    return reason is None


def gap_to(plain: Attention, device: torch.device, dtype: torch.dtype, heads: tuple[int, int, int], places: int) -> float:
    """Return how far the kernel's output and gradients are from those of `plain`, relative to the largest number of each."""
    plan = two_branches(places - 24)  # some tokens come after the plan's
    generator = torch.Generator().manual_seed(0)
    shapes = ((1, count, places, heads[2]) for count in (heads[0], heads[1], heads[1]))
    inputs = [torch.randn(shape, generator=generator).to(device, dtype).requires_grad_() for shape in shapes]
    direction = torch.randn((1, places, heads[0], heads[2]), generator=generator).to(device, dtype)
    mask = tree_mask(plan, places, device)
    query, key, value = inputs
    ours, theirs = fused_attention(query, key, value, mask, heads[2] ** -0.5), plain(plan, query, key, value)
    pairs = [(ours, theirs), *zip(*(torch.autograd.grad(out, inputs, direction) for out in (ours, theirs)), strict=True)]
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


def two_branches(length: int) -> AttentionPlan:
    """Return the plan of a trunk with two branches, `length` tokens together."""
    trunk = length // 3
    cuts = [0, trunk, trunk + (length - trunk) // 3, length]
    start, sizes = np.array(cuts[:-1]), np.diff(cuts)
    return plan_attention(Spans(start, sizes, np.array([0, 0, 0]), np.array([0, trunk, trunk])), length)

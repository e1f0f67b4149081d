"""Compute a batch that is too large for one forward pass in parts, with memory for the activations of one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from palate.text.pack import PackedBatch

T = TypeVar("T")


def in_parts(batch: PackedBatch, compute: Callable[[PackedBatch], T]) -> list[T]:
    """Return `compute` of each part of the batch, in order; where gradients are recorded, the backward pass computes a part again."""
    parts = batch.parts()
    if len(parts) == 1 or not torch.is_grad_enabled():
        return [compute(part) for part in parts]
    return [checkpoint(compute, part, use_reentrant=False, preserve_rng_state=False) for part in parts]  # no dropout, so nothing is random


def joined_parts(batch: PackedBatch, compute: Callable[[PackedBatch], Tensor]) -> Tensor:
    """Return what `compute` gives for the parts of the batch, one after another."""
    parts = in_parts(batch, compute)
    return parts[0] if len(parts) == 1 else torch.cat(parts)

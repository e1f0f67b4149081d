"""One base in memory: models whose frozen weights are the same hold them once."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from transformers import PreTrainedModel

_WRAPPED = ".base_layer"
"""What peft puts into the name of a weight beside which it sets an adapter."""


def share_frozen(*modules: PreTrainedModel) -> int:
    """Frozen weights of backbones that are equal become the same memory; returns the bytes so saved.

    Weights are equal when place, type, shape and every value are. Nobody may write to them from then on: merging an adapter replaces them.
    """
    kept: dict[str, list[Tensor]] = {}
    saved = 0
    for module in modules:
        for name, weight in _backbone(module):
            earlier = kept.setdefault(name, [])
            same = next((w for w in earlier if w.dtype == weight.dtype and torch.equal(w, weight)), None)
            if same is None:
                earlier.append(weight)
            elif same.data_ptr() != weight.data_ptr():
                weight.data = same.data
                saved += same.numel() * same.element_size()
    return saved


def _backbone(module: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Frozen weights below the head, by the names they have without adapters."""
    return ((name.replace(_WRAPPED, ""), p) for name, p in module.base_model.named_parameters() if not p.requires_grad)

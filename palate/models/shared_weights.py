"""Frozen weights that several models have in common are held once."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from transformers import PreTrainedModel

from palate.models.four_bit import FourBitLinear, four_bit_layers

_WRAPPED = ".base_layer"
"""What peft inserts into the name of a weight that has an adapter."""


def share_frozen(*modules: PreTrainedModel) -> int:
    """Let equal frozen weights of several backbones share memory; return the number of bytes saved.

    Two weights are equal when name, type, shape and every value are equal. Do not write to them afterwards; merging an adapter replaces
    them.
    """
    weights: dict[str, list[Tensor]] = {}
    layers: dict[str, list[FourBitLinear]] = {}
    saved = 0
    for module in modules:
        for path, layer in four_bit_layers(module.base_model).items():
            known = layers.setdefault(path.replace(_WRAPPED, ""), [])
            alike = next((one for one in known if one.is_equal(layer)), None)
            if alike is None:
                known.append(layer)
            elif alike.weight.data_ptr() != layer.weight.data_ptr():
                layer.share(alike)
                saved += layer.nbytes
        for name, weight in _backbone(module):
            candidates = weights.setdefault(name, [])
            same = next((w for w in candidates if w.dtype == weight.dtype and torch.equal(w, weight)), None)
            if same is None:
                candidates.append(weight)
            elif same.data_ptr() != weight.data_ptr():
                weight.data = same.data
                saved += same.numel() * same.element_size()
    return saved


def _backbone(module: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Return the frozen weights below the head, by their names without adapters; those of 4-bit layers are shared as a layer."""
    packed = {id(layer.weight) for layer in four_bit_layers(module).values()}
    named = module.base_model.named_parameters()
    return ((name.replace(_WRAPPED, ""), p) for name, p in named if not p.requires_grad and id(p) not in packed)

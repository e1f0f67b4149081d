"""LongRoPE: a model with two sets of rotary angles, one for states after a few tokens and one for later states.

transformers chooses the set once per forward pass, by the longest sequence in it. A short sequence beside a long one would then get the
angles of the long one. Generation reads each state at the length that the sequence has there: a state after at most
`original_max_position_embeddings` tokens has the short angles, a later state has the long angles, for all tokens before it too. The same
rule holds here for every state, so that learner and sampler agree and no sequence depends on its neighbours.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from palate.text.pack import Branch, PackedBatch, Tree, pack

_KNOWN: WeakKeyDictionary[PreTrainedModel, int | None] = WeakKeyDictionary()
"""What `short_angles` returned, because every forward pass asks."""


def short_angles(module: PreTrainedModel) -> int | None:
    """Return the number of tokens up to which a model has the short angles; None where it has one set of angles."""
    if module not in _KNOWN:
        _KNOWN[module] = _short_angles(module.config)
    return _KNOWN[module]


def _short_angles(config: PretrainedConfig) -> int | None:
    text = config.get_text_config()
    settings: dict[str, Any] = getattr(text, "rope_parameters", None) or {}
    each = [settings, *(part for part in settings.values() if isinstance(part, dict))]  # some models have settings by type of layer
    limits = [part.get("original_max_position_embeddings") for part in each if part.get("rope_type") == "longrope"]
    return min((int(limit) for limit in limits if limit), default=None)


def beginnings(batch: PackedBatch, limit: int) -> PackedBatch:
    """Return the batch with every sequence cut after `limit` tokens; the tokens that are left keep their order."""
    return pack([_beginning(tree, limit) for tree in batch.trees])


def _beginning(tree: Tree, limit: int) -> Tree:
    room = limit - len(tree.trunk)
    if room < 1:
        trunk = tree.trunk[:limit]
        return Tree(trunk[:-1], (Branch(trunk[-1:], (True,)),))
    return Tree(tree.trunk, tuple(Branch(branch.ids[:room], branch.learned[:room]) for branch in tree.branches))


def joined(early: Tensor, whole: Tensor, batch: PackedBatch, limit: int) -> Tensor:
    """Return the states (t, d) of the batch: those of `beginnings` (e, d) up to `limit` tokens, those of the whole batch after them."""
    is_early = batch.position_ids < limit
    place = torch.arange(len(is_early), device=early.device) + len(early)
    place[is_early] = torch.arange(len(early), device=early.device)
    return torch.cat([early, whole]).index_select(0, place)

"""Whether a model takes packed trees: what its configuration says, then one tree measured against plain sequences."""

from __future__ import annotations

import warnings
from typing import Literal

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from palate.models.attention import NAME, PackedAttention
from palate.models.padded import padded_rows
from palate.text.pack import Branch, Tree, pack

Path = Literal["packed", "padded"]

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
"""Largest difference from the plain forward, relative to the largest hidden state or logit."""


class PaddedPathWarning(UserWarning):
    """A model takes the slower padded path."""


def choose_path(module: PreTrainedModel) -> Path:
    """ "packed" and the module's attention switched to trees, or "padded" with one warning that names the reason."""
    reason = _configured_reason(module)
    if reason is None:
        reason = _measured_reason(module)
    if reason is None:
        return "packed"
    warnings.warn(
        f"{type(module).__name__} takes the padded path, which is slower but gives the same numbers: {reason}", PaddedPathWarning, stacklevel=3
    )
    return "padded"


def longest_sequence(config: PretrainedConfig) -> int | None:
    """Positions the model has, or None where its configuration names no limit."""
    settings = config.get_text_config().to_dict()
    limits = (settings.get("max_position_embeddings"), settings.get("n_positions"))
    return next((int(limit) for limit in limits if limit is not None), None)


def _configured_reason(module: PreTrainedModel) -> str | None:
    """Why trees cannot express this model's attention, as far as its configuration tells; else None."""
    settings = module.config.get_text_config().to_dict()
    if not type(module)._supports_attention_backend:
        return "its attention cannot be replaced from outside"
    kinds = set(settings.get("layer_types") or ())
    other = kinds - {"full_attention", "sliding_attention"}
    if other:
        return f"it has layers of type {', '.join(sorted(other))}"
    window, limit = settings.get("sliding_window"), longest_sequence(module.config)
    slides = "sliding_attention" in kinds if kinds else window is not None and settings.get("use_sliding_window", True)
    if slides and (window is None or limit is None or window < limit):
        return f"its attention slides over a window of {window} tokens"
    caps = [name for name in ("attn_logit_softcapping", "final_logit_softcapping") if settings.get(name) is not None]
    return f"it caps its logits ({', '.join(caps)})" if caps else None


def _measured_reason(module: PreTrainedModel) -> str | None:
    """Why packed and plain outputs of a two-branch tree differ, or None and the module's attention is switched to trees."""
    vocabulary = module.get_input_embeddings().num_embeddings
    ids = [(7 * place + 3) % vocabulary for place in range(12)]
    cuts = (ids[:4], ids[4:8], ids[8:11]) if (longest_sequence(module.config) or 8) >= 8 else (ids[:1], ids[1:2], ids[2:3])
    trunk, first, second = map(tuple, cuts)
    batch = pack([Tree(trunk, tuple(Branch(branch, (True,) * len(branch)) for branch in (first, second)))])
    rows = padded_rows(batch)
    plain_attention = module.config._attn_implementation
    with torch.no_grad():
        plain = rows.run(module.base_model)[rows.source]
        reason = _head_reason(module, plain, rows.run(module)) if module.get_output_embeddings() is not None else None
        if reason is not None:
            return reason
        module.set_attn_implementation(NAME)
        try:
            states = module.base_model(
                input_ids=batch.input_ids[None],
                position_ids=batch.position_ids[None],
                tree=PackedAttention(batch.layout),
                use_cache=False,
            )[0][0, batch.sources]
        except Exception as error:  # noqa: BLE001  # whatever a foreign model raises, its own attention still works
            reason = f"packed trees fail in it ({type(error).__name__}: {error})"
        else:
            gap = _gap(states, plain)
            reason = None if gap <= TOLERANCE[plain.dtype] else f"packed trees differ from plain sequences by {gap:.2g} of the hidden states"
    if reason is not None:
        module.set_attn_implementation(plain_attention)
    return reason

"""Parts of a scalar model: a backbone with a linear layer above it, and a tokenizer whose padding is not the end of a turn."""

from __future__ import annotations

import copy
from collections.abc import Set

import torch
from torch.nn import Linear
from transformers import AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from palate.core import ModelError
from palate.models.devices import placed
from palate.models.load import built
from palate.text.ends import declare_ends


def on_backbone(source: PreTrainedModel, config: PretrainedConfig, seed: int, *, takes: bool) -> PreTrainedModel:
    """Return a model for sequence classification on the backbone of `source`, or on a copy of it unless `takes`.

    A copy needs the memory of the model once more. The weights of the head have no meaning yet.

    Raises:
        ModelError: transformers has no scalar head for the family.
    """
    if takes and (module := _taking(source, config, seed)) is not None:
        return module
    module = _new(config, seed)
    module = placed(module.to(source.dtype), source.device)
    module.base_model.load_state_dict(source.base_model.state_dict())
    return module


def _taking(source: PreTrainedModel, config: PretrainedConfig, seed: int) -> PreTrainedModel | None:
    """Return a model with the backbone of `source` itself; None where it consists of more than a backbone and a head."""
    with torch.device("meta"):  # the backbone that it begins with takes no memory
        module = _new(config, seed)
    head = head_of(module)
    if type(module.base_model) is not type(source.base_model) or module.base_model is module:
        return None
    setattr(module, module.base_model_prefix, source.base_model)
    module.score = Linear(head.in_features, head.out_features, bias=head.bias is not None, device=source.device, dtype=source.dtype)
    return None if any(x.is_meta for x in (*module.parameters(), *module.buffers())) else module


def _new(config: PretrainedConfig, seed: int) -> PreTrainedModel:
    try:
        module: PreTrainedModel = built(AutoModelForSequenceClassification.from_config, config, seed)
    except ValueError as error:
        raise ModelError(f"transformers has no scalar head for {config.model_type} models; use another family") from error
    return module


def with_padding(tokenizer: PreTrainedTokenizerBase, ends: Set[int]) -> PreTrainedTokenizerBase:
    """Return the tokenizer if its padding token is not one of `ends`, or a copy that pads with another special token, or with none.

    transformers scores a sequence at its last token that is not padding. With the end of a turn as padding it would score the token before
    that end, and in batches whatever token is there. Without a padding token it refuses batches.
    """
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id not in ends:
        return tokenizer
    special = {i: token.content for i, token in sorted(tokenizer.added_tokens_decoder.items()) if token.special and i not in ends}
    first = (tokenizer.unk_token_id, tokenizer.bos_token_id)
    unused = sorted(special, key=lambda i: ("pad" not in special[i].lower(), i in first, i))
    tokenizer = copy.deepcopy(tokenizer)
    declare_ends(tokenizer, ends)
    tokenizer.pad_token = special[unused[0]] if unused else None
    return tokenizer


def head_of(module: PreTrainedModel) -> Linear:
    """Return the linear layer of a sequence classification model.

    Raises:
        ModelError: it has no layer of the name that transformers uses.
    """
    head = dict(module.named_children()).get("score")
    if not isinstance(head, Linear):
        raise ModelError(f"{type(module).__name__} has no linear layer `score`; use a decoder for sequence classification")
    return head

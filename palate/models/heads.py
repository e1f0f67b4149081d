"""Parts of a scalar model: a backbone with a linear layer above it, and a tokenizer whose padding is not the end of a turn."""

from __future__ import annotations

import copy
from collections.abc import Sequence, Set
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.nn import Linear, Parameter
from transformers import AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from palate.core import ModelError
from palate.models.devices import placed
from palate.models.encoders import is_encoder, reads_pairs
from palate.models.load import built, check_vocabulary, load_config, load_tokenizer
from palate.models.model_files import load_module
from palate.models.paths import AttentionPath, choose_path
from palate.models.shared_layers import cast_parameters, shards_of, share_out, sharing_now
from palate.models.transformers_io import on_cpu
from palate.text.ends import declare_ends, end_ids
from palate.text.pack import PackedBatch

HEAD_NAMES = ("score", "classifier", "classifier.out_proj")
"""Names of the last layer: of decoders, of encoders, and of encoders like RoBERTa, whose head has two layers."""


def headed(
    source: PreTrainedModel, config: PretrainedConfig, heads: Sequence[str], seed: int, *, start: Tensor | None, takes: bool
) -> PreTrainedModel:
    """Return a model with new heads of these names, which start as `start` or are drawn, and the attention of `source`.

    The other arguments are those below.
    """
    name_heads(config, heads)
    module = on_backbone(source, config, seed, takes=takes)
    draw_head(module, seed)
    if start is not None:
        with torch.no_grad():
            head_of(module).weight.copy_(start)
    module.set_attn_implementation(source.config._attn_implementation)
    return module


def on_backbone(source: PreTrainedModel, config: PretrainedConfig, seed: int, *, takes: bool) -> PreTrainedModel:
    """Return a model for sequence classification on the backbone of `source`, or on a copy of it unless `takes`.

    A copy needs the memory of the model once more. The weights of the head have no meaning yet.

    Raises:
        ModelError: transformers has no scalar head for the family.
    """
    if takes and (module := _taking(source, config, seed)) is not None:
        return module
    module = cast_parameters(_new(config, seed), source.dtype)
    if (sharing := sharing_now()) is None:
        placed(module, source.device)
    module.base_model.load_state_dict(on_cpu(source.base_model) if shards_of(source) else source.base_model.state_dict())
    share_out(module, sharing)
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


def scoring_tokenizer(module: PreTrainedModel, path: str | Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer at `path` of a model that scores; that of an encoder reads pairs. Raises ModelError without a head."""
    head_of(module)
    tokenizer = load_tokenizer(path)
    return reads_pairs(tokenizer) if is_encoder(module.config) else tokenizer


def encoder_with_heads(
    path: str | Path, heads: Sequence[str], seed: int, *, is_plain: bool
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, AttentionPath]:
    """Return the encoder at `path` with new heads, its tokenizer, which reads pairs, and how it computes batches.

    What lies between the encoder and its last layer is drawn from `seed` too, where the directory does not hold it. Without `is_plain`
    something was asked for that encoders do not do.

    Raises:
        ModelError: as `load_module`, or the encoder is not to be used as it is.
    """
    if not is_plain:
        raise ModelError(f"{path} is an encoder, which pools a text in its own way. Use score: last_token, without adapters")
    config = load_config(path)
    name_heads(config, heads)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = load_module(AutoModelForSequenceClassification, path, config, "float32", new_head=True)
    draw_head(module, seed)
    tokenizer = scoring_tokenizer(module, path)
    check_vocabulary(module, tokenizer)
    return module.eval(), with_padding(tokenizer, end_ids(tokenizer)), choose_path(module)


def draw_head(module: PreTrainedModel, seed: int) -> None:
    """Draw the weights of the heads from N(0, 1 / (d + 1)); a bias becomes 0."""
    head = head_of(module)
    spread = (head.in_features + 1) ** -0.5
    with torch.no_grad():
        head.weight.copy_(torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(seed)) * spread)
        if head.bias is not None:
            head.bias.zero_()


def keep_first_heads(module: PreTrainedModel, names: Sequence[str]) -> None:
    """Cut the heads of a sequence classification model down to the first ones, which keep their weights and have these names."""
    head = head_of(module)
    head.weight = Parameter(head.weight.detach()[: len(names)].clone(), requires_grad=head.weight.requires_grad)
    if head.bias is not None:
        head.bias = Parameter(head.bias.detach()[: len(names)].clone(), requires_grad=head.bias.requires_grad)
    head.out_features = len(names)
    name_heads(module.config, names)


def name_heads(config: PretrainedConfig, names: Sequence[str]) -> None:
    """Say in a configuration what heads there are."""
    config.num_labels = len(names)
    config.id2label, config.label2id = dict(enumerate(names)), {name: k for k, name in enumerate(names)}


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
    layers = dict(module.named_modules())
    head = next((layers[name] for name in HEAD_NAMES if isinstance(layers.get(name), Linear)), None)
    if not isinstance(head, Linear):
        raise ModelError(
            f"{type(module).__name__} has none of the linear layers {', '.join(HEAD_NAMES)}; use another model for sequence classification"
        )
    return head


def scoring_layer(module: PreTrainedModel) -> Linear:
    """Return the layer that scores: that of `head_of`, or what an adapter has put in its place, which has weight and bias too."""
    return head_of(module) if is_encoder(module.config) else cast("Linear", module.get_submodule("score"))


def padding_at_ends(batch: PackedBatch, module: PreTrainedModel) -> Tensor:
    """Return how many tokens of padding each branch ends with (b,): transformers scores the token before them, so these are not read.

    Models that Palate trains never end a sequence with padding (see `with_padding`); others may pad with the end of a turn.
    """
    pad = module.config.get_text_config().pad_token_id
    counts = [0 if branch.ids[-1] != pad else _count_at_end(branch.ids, pad) for tree in batch.trees for branch in tree.branches]
    return torch.tensor(counts)


def _count_at_end(ids: Sequence[int], token: int) -> int:
    """Return how often `token` stands at the end, at most one time less than there are ids."""
    return next((count for count, one in enumerate(reversed(ids)) if one != token), len(ids) - 1)

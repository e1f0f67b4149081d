"""Tiny Hugging Face models with random weights, one per family, and random trees for them, built in code."""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)

from palate.models.causal import CausalPolicy
from palate.models.load import as_policy, built, vocabulary_size, without_dropout
from palate.models.paths import PaddedPathWarning
from palate.testing.tokenizers import pair_tokenizer, word_tokenizer
from palate.text.pack import Branch, Tree

_COMMON: Mapping[str, object] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
}
_GPT2: Mapping[str, object] = {"n_embd": 32, "n_inner": 48, "n_layer": 2, "n_head": 4, "n_positions": 128, "initializer_range": 0.3}
_LINEAR = {"linear_num_value_heads": 2, "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
_LONGROPE: Mapping[str, object] = {
    "original_max_position_embeddings": 16,
    "rope_parameters": {
        "rope_type": "longrope",
        "short_factor": [1.0] * 4,
        "long_factor": [4.0] * 4,
        "rope_theta": 10000.0,
        "original_max_position_embeddings": 16,
    },
}
_VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 14, "patch_size": 7}
_SETTINGS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "llama": ("llama", _COMMON),
    "mistral": ("mistral", {**_COMMON, "sliding_window": None}),
    "qwen2": ("qwen2", _COMMON),
    "qwen3": ("qwen3", _COMMON),
    "gpt2": ("gpt2", _GPT2),
    "gemma2": ("gemma2", {**_COMMON, "query_pre_attn_scalar": 8}),
    "sliding_mistral": ("mistral", {**_COMMON, "sliding_window": 8}),
    "longrope": ("phi3", {**_COMMON, **_LONGROPE}),
    "composite": ("gemma3", {"vision_config": _VISION, "mm_tokens_per_image": 4, "image_token_index": 0}),
    "lfm2": ("lfm2", {**_COMMON, "layer_types": ["conv", "full_attention"]}),
    "qwen3_5": ("qwen3_5_text", {**_COMMON, **_LINEAR, "layer_types": ["linear_attention", "full_attention"]}),
    "mamba": ("mamba", {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "initializer_range": 0.3}),
}
LENGTH_FAMILIES: tuple[str, ...] = ("longrope",)
"""Families that take packed trees, and have other angles in long sequences."""
OWN_CACHE_FAMILIES: tuple[str, ...] = ("lfm2", "qwen3_5", "mamba")
"""Families that are sampled by their own cache."""
COMPOSITE_FAMILIES: tuple[str, ...] = ("composite",)
"""Families whose configuration holds that of a text model."""
PADDED_FAMILIES: tuple[str, ...] = ("gemma2", "sliding_mistral")
"""Families that take the padded path."""
_SPECIAL = (*PADDED_FAMILIES, *LENGTH_FAMILIES, *OWN_CACHE_FAMILIES, *COMPOSITE_FAMILIES)
FAMILIES: tuple[str, ...] = tuple(family for family in _SETTINGS if family not in _SPECIAL)
"""Families that take packed trees."""
ALL_FAMILIES: tuple[str, ...] = tuple(_SETTINGS)


def tiny_config(family: str, tokenizer: PreTrainedTokenizerBase) -> PretrainedConfig:
    """Return the configuration of a tiny model for `tokenizer`, with the family's dropout and weights large enough to show differences."""
    model_type, settings = _SETTINGS[family]
    ids = {
        "vocab_size": vocabulary_size(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if family in COMPOSITE_FAMILIES:
        return AutoConfig.for_model(model_type, text_config={**_COMMON, **ids, "query_pre_attn_scalar": 8}, **settings)
    return AutoConfig.for_model(model_type, **ids, **settings)


def tiny_policy(family: str = "llama", tokenizer: PreTrainedTokenizerBase | None = None, seed: int = 0) -> CausalPolicy:
    """Build a tiny policy of `family`. The warning that the padded families give is hidden."""
    tokenizer = tokenizer or word_tokenizer()
    module = built(AutoModelForCausalLM.from_config, without_dropout(tiny_config(family, tokenizer)), seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PaddedPathWarning)
        return as_policy(module, tokenizer)


_ENCODERS: Mapping[str, Mapping[str, object]] = {
    "bert": {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48},
    "distilbert": {"n_layers": 2, "n_heads": 4, "hidden_dim": 48, "dim": 32},
    "roberta": {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48},
    "modernbert": {
        "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48, "classifier_pooling": "mean", "local_attention": 8,
    },
    "deberta-v2": {
        "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 2,
    },
}  # fmt: skip
ENCODERS: tuple[str, ...] = tuple(_ENCODERS)
"""Families of encoders."""


def save_encoder(directory: Path, family: str = "bert", heads: Sequence[str] = (), seed: int = 0) -> None:
    """Write a tiny encoder with its tokenizer: with heads of these names a classifier, without any the pretrained model that fills gaps."""
    tokenizer = pair_tokenizer(family)
    sizes = {**_ENCODERS[family], "vocab_size": vocabulary_size(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    config = AutoConfig.for_model(
        family, **{"hidden_size": 32, **sizes} if family != "distilbert" else sizes, max_position_embeddings=128, initializer_range=0.3
    )
    config.cls_token_id, config.sep_token_id = tokenizer.cls_token_id, tokenizer.sep_token_id
    if heads:
        config.id2label, config.label2id = dict(enumerate(heads)), {name: k for k, name in enumerate(heads)}
    auto = AutoModelForSequenceClassification if heads else AutoModelForMaskedLM
    built(auto.from_config, config, seed).save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def random_trees(shapes: Sequence[tuple[int, Sequence[int]]], vocabulary: int, seed: int = 0) -> list[Tree]:
    """Return one tree per (trunk length, branch lengths), with random ids below `vocabulary`; about three tokens in four are learned."""
    rng = random.Random(seed)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(rng.randrange(vocabulary) for _ in range(count))

    def branch(count: int) -> Branch:
        return Branch(ids(count), tuple(rng.random() < 0.75 for _ in range(count)))

    return [Tree(ids(trunk), tuple(branch(length) for length in lengths)) for trunk, lengths in shapes]

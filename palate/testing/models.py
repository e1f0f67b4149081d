"""Tiny Hugging Face models with random weights, one of each family, built in code."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedTokenizerBase

from palate.models.causal import CausalPolicy
from palate.models.load import as_policy, built, vocabulary_size, without_dropout
from palate.models.paths import PaddedPathWarning
from palate.testing.tokenizers import word_tokenizer

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
_SETTINGS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "llama": ("llama", _COMMON),
    "mistral": ("mistral", {**_COMMON, "sliding_window": None}),
    "qwen2": ("qwen2", _COMMON),
    "qwen3": ("qwen3", _COMMON),
    "gpt2": ("gpt2", _GPT2),
    "gemma2": ("gemma2", {**_COMMON, "query_pre_attn_scalar": 8}),
    "sliding_mistral": ("mistral", {**_COMMON, "sliding_window": 8}),
}
PADDED_FAMILIES: tuple[str, ...] = ("gemma2", "sliding_mistral")
"""Families that take the padded path."""
FAMILIES: tuple[str, ...] = tuple(family for family in _SETTINGS if family not in PADDED_FAMILIES)
"""Families that take packed trees."""


def tiny_config(family: str, tokenizer: PreTrainedTokenizerBase) -> PretrainedConfig:
    """Configuration of a tiny model for `tokenizer`, dropout as the family has it; weights large enough for differences to show."""
    model_type, settings = _SETTINGS[family]
    return AutoConfig.for_model(
        model_type,
        vocab_size=vocabulary_size(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **settings,
    )


def tiny_policy(family: str = "llama", tokenizer: PreTrainedTokenizerBase | None = None, seed: int = 0) -> CausalPolicy:
    """A tiny policy of `family`; the padded families' warning is expected and not shown."""
    tokenizer = tokenizer or word_tokenizer()
    module = built(AutoModelForCausalLM.from_config, without_dropout(tiny_config(family, tokenizer)), seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PaddedPathWarning)
        return as_policy(module, tokenizer)

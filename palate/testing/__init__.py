"""Parts for tests: tiny models and tokenizers built in code, and paths to outside data."""

from palate.testing.models import (
    ALL_FAMILIES,
    COMPOSITE_FAMILIES,
    ENCODERS,
    FAMILIES,
    LENGTH_FAMILIES,
    OWN_CACHE_FAMILIES,
    PADDED_FAMILIES,
    random_trees,
    save_encoder,
    tiny_config,
    tiny_policy,
)
from palate.testing.synthetic_votes import shared_data
from palate.testing.templates import TEMPLATES, chat_tokenizer
from palate.testing.tokenizers import byte_tokenizer, pair_tokenizer, word_tokenizer

__all__ = [
    "ALL_FAMILIES",
    "COMPOSITE_FAMILIES",
    "ENCODERS",
    "FAMILIES",
    "LENGTH_FAMILIES",
    "OWN_CACHE_FAMILIES",
    "PADDED_FAMILIES",
    "TEMPLATES",
    "byte_tokenizer",
    "chat_tokenizer",
    "pair_tokenizer",
    "random_trees",
    "save_encoder",
    "shared_data",
    "tiny_config",
    "tiny_policy",
    "word_tokenizer",
]

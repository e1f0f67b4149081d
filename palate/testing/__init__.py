"""Parts for tests: tiny models and tokenizers built in code, and the way to outside data."""

from palate.testing.data import shared_data
from palate.testing.models import FAMILIES, PADDED_FAMILIES, tiny_config, tiny_policy
from palate.testing.random_trees import random_trees
from palate.testing.tokenizers import byte_tokenizer, word_tokenizer

__all__ = [
    "FAMILIES",
    "PADDED_FAMILIES",
    "byte_tokenizer",
    "random_trees",
    "shared_data",
    "tiny_config",
    "tiny_policy",
    "word_tokenizer",
]

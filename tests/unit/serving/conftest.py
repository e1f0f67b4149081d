"""A tiny chat model that answers by HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from palate.models.causal import CausalPolicy
from palate.testing import chat_tokenizer, tiny_policy
from tests.support.served_model import ModelServer, model_server


@pytest.fixture(scope="package")
def chat_policy() -> CausalPolicy:
    """A model with a chat template, of bytes."""
    return tiny_policy("llama", chat_tokenizer("closed"), seed=5)


@pytest.fixture(scope="package")
def server(chat_policy: CausalPolicy) -> Iterator[ModelServer]:
    """A server that everybody may ask, without ranking, rules or store."""
    with model_server(chat_policy) as running:
        yield running

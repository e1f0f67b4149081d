"""The ids of one completion."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from palate.core import Conversation
from palate.text.chat_text import Ids
from palate.text.spans import split_ids


def completion_ids(tokenizer: PreTrainedTokenizerBase, conversation: Conversation, text: str) -> Ids:
    """Ids of the completion of `conversation`, with its terminator."""
    return split_ids(tokenizer, conversation, (text,))[1][0]

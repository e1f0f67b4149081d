"""The token ids of one conversation with several short endings, such as the options of a question. Its beginning is tokenised once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from palate.core import Conversation, Message
from palate.text.chat_text import Ids, encode
from palate.text.ends import end_ids
from palate.text.template import chat_text, is_plain_text, special_texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def ids_with_endings(
    tokenizer: PreTrainedTokenizerBase, conversation: Conversation, begun: str, endings: Sequence[str], whole: Callable[[str], Ids]
) -> list[Ids]:
    """Return the ids of the conversation with each ending, without an end token.

    A tokenizer reads the text before and after a special token apart. So from the last special token before the endings on, all but the
    first ending are tokenised without what stands before it. Where no such token is found, each is tokenised whole.

    Args:
        tokenizer: has the template.
        conversation: what comes before.
        begun: how the answer begins, before each ending.
        endings: one or more texts.
        whole: tokenises the conversation with one ending (`whole_ids` of a completion that was cut).

    Raises:
        Unusable: as `whole`.
    """
    first = whole(endings[0])
    tail = _tail(tokenizer, conversation, begun, endings) if len(endings) > 1 else ""
    known = encode(tokenizer, tail + endings[0]) if tail else ()
    head = len(first) - len(known)
    # The first ending shows whether the tail is right: a template may trim or change what it writes.
    if not known or first[head:] != known:
        return [first, *map(whole, endings[1:])]
    ends, begins = end_ids(tokenizer), encode(tokenizer, tail)
    rest = [(ending, encode(tokenizer, tail + ending)) for ending in endings[1:]]
    return [first, *(first[:head] + ids if ends.isdisjoint(ids[len(begins) :]) else whole(ending) for ending, ids in rest)]


def _tail(tokenizer: PreTrainedTokenizerBase, conversation: Conversation, begun: str, endings: Sequence[str]) -> str:
    """Return the text before the endings, from its last special token on; "" where it must not be split."""
    edges = {(ending[:1].isspace(), ending[-1:].isspace()) for ending in endings}
    if not tokenizer.is_fast or not all(endings) or len(edges) > 1 or any(special_texts(tokenizer, ending) for ending in endings):
        return ""
    if is_plain_text(conversation):
        text = "".join(message.text for message in conversation)
    else:
        asked = chat_text(tokenizer, conversation, generation_prompt=True)
        answered = chat_text(tokenizer, (*conversation, Message("assistant", begun + endings[0])), generation_prompt=False)
        differs = next((k for k, (one, other) in enumerate(zip(asked, answered, strict=False)) if one != other), len(asked))
        at = answered.find(begun + endings[0], differs)
        text = answered[: at + len(begun)] if at >= 0 else ""
    start = max((text.rfind(token) for token in _splitting(tokenizer)), default=-1)
    return text[start:] if start >= 0 else ""


def _splitting(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the special tokens that are found whatever stands around them, and take no white space with them from before."""
    return [
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if token.special and not (token.lstrip or token.single_word or token.normalized)
    ]

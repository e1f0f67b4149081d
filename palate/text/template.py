"""Turn conversations into token ids with a Hugging Face tokenizer and its chat template. Only tokens are cut, never text.

Three kinds of conversation:

- chat roles and a tokenizer with a chat template: the template decides every token, including BOS;
- chat roles and a tokenizer without one: `FALLBACK_TEMPLATE` (transcripts as in Anthropic's HH data), with BOS if the tokenizer adds it;
- only the role `text`: the joined texts, with BOS if the tokenizer adds it.

Tools and calls (`tool_fields` of a message) go to the chat template. A template that does not write them is an error. So is a message
whose words would be read as tokens that the template itself writes, such as the end of a turn.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from palate.core import Conversation, Message, ModelError
from palate.text.chat_text import FALLBACK_TEMPLATE, Ids, Unusable, encode, fields_of, opening_ids, template_of, write
from palate.text.ends import PROBES, end_ids, special_ids, unterminated

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["FALLBACK_TEMPLATE", "Ids", "Unusable", "chat_text", "is_plain_text", "render", "special_texts"]


def is_plain_text(conversation: Conversation) -> bool:
    """Whether every message has the role `text`.

    Raises:
        Unusable: there are no messages, or `text` is mixed with chat roles.
    """
    if not conversation:
        raise Unusable("no message")
    plain = [message.role == "text" for message in conversation]
    if any(plain) and not all(plain):
        raise Unusable("the role `text` is mixed with chat roles")
    return plain[0]


def render(tokenizer: PreTrainedTokenizerBase, conversation: Conversation, *, generation_prompt: bool) -> Ids:
    """Token ids of the conversation as template and tokenizer write it, with at most one BOS at its head.

    Plain text does not get EOS here. Terminators at the end of assistant turns and of plain text are removed first, because the
    template (or `palate.text.spans`) writes one. So a text that already ends with a terminator does not get two.

    Args:
        tokenizer: with or without a chat template.
        conversation: one or more messages.
        generation_prompt: whether to open an assistant turn at the end (no effect on plain text).

    Raises:
        Unusable: the template refuses the conversation, or would leave out its tools, or a text holds a token of the template.
        ModelError: the template cannot open an assistant turn, or does not write contents.
    """
    if is_plain_text(conversation):
        ids = encode(tokenizer, "".join(message.text for message in unterminated(tokenizer, conversation)))
        opening = opening_ids(tokenizer)
        return ids if ids[: len(opening)] == opening else opening + ids
    return _single_bos(tokenizer, encode(tokenizer, chat_text(tokenizer, conversation, generation_prompt=generation_prompt)))


def chat_text(tokenizer: PreTrainedTokenizerBase, conversation: Conversation, *, generation_prompt: bool) -> str:
    """The text of which `render` gives the ids, for a conversation of chat roles. Raises as `render` does."""
    template = template_of(tokenizer, has_tools="tools" in fields_of(conversation[0]))
    return _chat_text(tokenizer, template, end_ids(tokenizer), (tokenizer.bos_token, tokenizer.eos_token), conversation, generation_prompt)


@lru_cache(maxsize=64)
def _chat_text(
    tokenizer: PreTrainedTokenizerBase,
    template: str,
    ends: frozenset[int],
    _marks: tuple[object, object],  # BOS and EOS can be replaced on a tokenizer, so they belong to the key of the cache
    conversation: Conversation,
    generation_prompt: bool,  # noqa: FBT001 - a key of the cache
) -> str:
    """The same, cached: a prompt and an answer are written for their tokens, for what the template leaves out, and for remarks."""
    if generation_prompt:
        _require_generation_prompt(tokenizer, template)
    bare = unterminated(tokenizer, conversation)
    structure = _structure(tokenizer, template, ends)
    for message in bare:
        if (found := structure.search(message.text + message.tool_fields)) is not None:
            raise Unusable(
                f"a text holds a token of the chat template: {found[0]!r} in a turn of the {message.role} would begin or end a turn. "
                "Write it in another way"
            )
    return write(tokenizer, template, bare, generation_prompt=generation_prompt)


def special_texts(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[str, ...]:
    """The special tokens that a text spells out, which the tokenizer reads as tokens, each once."""
    return tuple(dict.fromkeys(found[0] for found in _any_of(tokenizer, special_ids(tokenizer)).finditer(text)))


def _single_bos(tokenizer: PreTrainedTokenizerBase, ids: Ids) -> Ids:
    """`ids` with one BOS at the head, even if the template and the text both wrote one."""
    while len(ids) > 1 and ids[0] == ids[1] == tokenizer.bos_token_id:
        ids = ids[1:]
    return ids


@lru_cache(maxsize=16)
def _structure(tokenizer: PreTrainedTokenizerBase, template: str, ends: frozenset[int]) -> re.Pattern[str]:
    """A pattern that finds the special tokens with which the template builds a conversation, and all ends, in a text."""
    built: set[int] = set()
    for probe in PROBES:
        for is_open in (False, True):
            try:
                built.update(encode(tokenizer, write(tokenizer, template, probe, generation_prompt=is_open)))
            except Unusable:
                continue
    return _any_of(tokenizer, frozenset(built & special_ids(tokenizer)) - {cast("int", tokenizer.unk_token_id)} | ends)


@lru_cache(maxsize=32)
def _any_of(tokenizer: PreTrainedTokenizerBase, ids: frozenset[int]) -> re.Pattern[str]:
    texts = cast("list[str | None]", tokenizer.convert_ids_to_tokens(sorted(ids)))
    special = special_ids(tokenizer)
    # A generation config may name an ordinary token as an end. Its text is an ordinary word, which may stand anywhere.
    spelled = [text for text, token in zip(texts, sorted(ids), strict=True) if text and token in special]
    return re.compile("|".join(map(re.escape, sorted(spelled, key=len, reverse=True))) or r"(?!)")


@lru_cache(maxsize=16)
def _require_generation_prompt(tokenizer: PreTrainedTokenizerBase, template: str) -> None:
    """Check that the template can open an assistant turn, or writes no header before one (Llama 2: `[/INST]` closes the user's turn).

    Raises:
        ModelError: the template opens assistant turns with a header, and does not have a generation prompt that writes it.
    """
    answer = "What is said."
    question = (Message("user", "a"),)
    try:
        bare, opened = (write(tokenizer, template, question, generation_prompt=is_open) for is_open in (False, True))
        answered = write(tokenizer, template, (*question, Message("assistant", answer)), generation_prompt=False)
    except Unusable:
        return  # the rows that the template refuses are reported one by one
    if bare != opened or not answered.startswith(bare):
        return
    header = answered[len(bare) :].partition(answer)[0]
    if header.strip():
        remedy = f"{{% if add_generation_prompt %}}{header.encode('unicode_escape').decode()}{{% endif %}}"
        raise ModelError(
            f"the chat template of {tokenizer.name_or_path} has no generation prompt: it opens answers with {header!r}, which "
            f"every completion would have to write. End the template with {remedy}, or use the chat model's own tokenizer."
        )

"""What the token ids of a sampled completion say: the tokenizer that they belong to, and their text."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, cast

from palate.core import Completion, Message
from palate.text.chat_text import Ids, template_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Answer = str | Message | Completion
"""A completion: its text, an assistant turn that calls tools, or either with what is known of its tokens."""

SAMPLE_TEXT = "The cook's 12 pots,\n\t  4.5 litres each: na\u00efve caf\u00e9 \u4f60\u597d \U0001f372 <|im_end|></s>"
"""A text that tokenizers of one vocabulary may still split in different ways."""

WINDOW = 8
"""Tokens of the prompt that are decoded before a completion: a decoder may drop the space before the first token that it sees."""


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """A digest that two tokenizers share if they turn the same conversation and completion into the same ids."""
    return _digest(tokenizer, template_of(tokenizer), str(tokenizer.eos_token), len(tokenizer))


@lru_cache(maxsize=16)
def _digest(tokenizer: PreTrainedTokenizerBase, template: str, eos: str, size: int) -> str:
    """The digest, cached by what can be replaced on a tokenizer."""
    sample = cast("list[int]", tokenizer(SAMPLE_TEXT).input_ids)
    content = (sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1]), template, eos, size, sample)
    return hashlib.blake2b(repr(content).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def decoded(tokenizer: PreTrainedTokenizerBase, trunk: Ids, bodies: Sequence[Ids]) -> list[str]:
    """What the ids of each body add to the text of the prompt `trunk`: white space and special tokens stay as they were sampled."""
    window = trunk[-WINDOW:]
    head, *wholes = _decode(tokenizer, [window, *(window + body for body in bodies)])
    # The prompt may end inside a character. Its beginning then changes when a completion follows, and the completion is decoded alone.
    return [
        whole[len(head) :] if whole.startswith(head) else _decode(tokenizer, [body])[0] for whole, body in zip(wholes, bodies, strict=True)
    ]


def possible_texts(written: str, *, is_chat: bool) -> tuple[str, ...]:
    """The texts that can stand for what was `written` after a prompt, the shortest first.

    A chat template may write the white space around a turn itself. The turn's text is then without it. Plain text keeps all of it.
    """
    if not is_chat:
        return (written,)
    return tuple(dict.fromkeys((written.strip(), written.lstrip(), written[1:] if written[:1] == " " else written, written)))


def known_ids(tokenizer: PreTrainedTokenizerBase, trunk: Ids, completion: Completion, *, is_chat: bool) -> Ids:
    """The completion's ids if they are this tokenizer's and say what its text says; otherwise ().

    A text that somebody changed after it was sampled has other tokens than those that were sampled.
    """
    if not completion.ids or completion.tokenizer != tokenizer_digest(tokenizer):
        return ()
    body = completion.ids[:-1] if completion.stop == "eos" else completion.ids
    (written,) = decoded(tokenizer, trunk, [body])
    return completion.ids if completion.text in possible_texts(written, is_chat=is_chat) else ()


def answer_of(completion: Completion) -> Completion:
    """The part of a completion that decides its tokens. Completions that are alike in it share a branch."""
    return replace(completion, logps=(), policy="", is_exact=True)


def turn_of(answer: Answer, role: Literal["text", "assistant"]) -> Message:
    """The turn that a template writes for an answer."""
    match answer:
        case Message():
            return answer
        case Completion(text=text, tool_fields=calls):
            return Message("assistant" if calls else role, text, calls)
        case text:
            return Message(role, text)


def _decode(tokenizer: PreTrainedTokenizerBase, sequences: Sequence[Ids]) -> list[str]:
    texts = tokenizer.batch_decode(list(map(list, sequences)), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return cast("list[str]", texts)

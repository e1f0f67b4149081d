"""The ids that end a completion. Every part of Palate that learns, samples, scores or exports asks here.

Three sources know ends: the tokenizer (EOS), the generation config beside a model, and the chat template. `declare_ends` tells a
tokenizer what the generation config says, so that parts which have only a tokenizer know the same ends as the sampler.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, cast
from weakref import WeakKeyDictionary

from palate.core import Conversation, Message, ModelError
from palate.text.chat_text import CALL, WORD, Ids, Unusable, encode, template_of, write

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase

_DECLARED: WeakKeyDictionary[PreTrainedTokenizerBase, frozenset[int]] = WeakKeyDictionary()

QUESTION, ANSWER = Message("user", "a"), Message("assistant", WORD)
PROBES: tuple[Conversation, ...] = (
    (QUESTION,),
    (QUESTION, ANSWER),
    (QUESTION, ANSWER, QUESTION),
    (Message("system", "a"), QUESTION),
    (QUESTION, Message("assistant", "", CALL)),
    (QUESTION, Message("assistant", "", CALL), Message("tool", "a")),
)
"""Conversations that show which tokens a template writes. It may refuse some of them."""


@dataclass(frozen=True)
class TurnEnds:
    """The ids that close an answer and a turn that calls tools, by the template; None where it does not write any."""

    answer: int | None
    call: int | None


def declare_ends(tokenizer: PreTrainedTokenizerBase, ends: Iterable[int]) -> None:
    """Make the ends of a model known to everything that uses its tokenizer. A copy of a tokenizer must be told again."""
    _DECLARED[tokenizer] = _DECLARED.get(tokenizer, frozenset()) | frozenset(ends)


def configured_ends(generation_config: GenerationConfig | None) -> frozenset[int]:
    """The ends that a model's generation config names."""
    configured = None if generation_config is None else cast("int | Sequence[int] | None", generation_config.eos_token_id)
    return frozenset([configured] if isinstance(configured, int) else configured or ())


def end_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids that end a completion: EOS, the declared ends, and the tokens that close turns in the template.

    Where a template does not close turns, the marker that opens the next turn does (GLM), and is an end.

    Raises:
        ModelError: the tokenizer has no EOS token.
    """
    return _end_ids(tokenizer, template_of(tokenizer), eos_id(tokenizer), _DECLARED.get(tokenizer, frozenset()))


@lru_cache(maxsize=16)
def _end_ids(tokenizer: PreTrainedTokenizerBase, template: str, eos: int, declared: frozenset[int]) -> frozenset[int]:
    """The same, cached by what can be replaced on a tokenizer."""
    ends = _turn_ends(tokenizer, template, eos)
    return frozenset({eos}) | {end for end in (ends.answer, ends.call) if end is not None} | declared


def closing_id(tokenizer: PreTrainedTokenizerBase, *, calls: bool) -> int:
    """The id that ends the last turn where the template leaves it open: what closes such turns before others, or EOS."""
    eos = eos_id(tokenizer)
    ends = _turn_ends(tokenizer, template_of(tokenizer), eos)
    closing = ends.call if calls else ends.answer
    return eos if closing is None else closing


def eos_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The tokenizer's EOS id.

    Raises:
        ModelError: it does not have one, so completions could not end.
    """
    eos = cast("int | None", tokenizer.eos_token_id)  # looked up once: transformers searches all special tokens for it
    if eos is None:
        raise ModelError(
            f"the tokenizer {tokenizer.name_or_path} has no EOS token, so no completion could end. "
            "Set `eos_token` in its tokenizer_config.json."
        )
    return eos


def special_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids of all special tokens."""
    return _special_ids(tokenizer, len(tokenizer), tuple(tokenizer.all_special_ids))


@lru_cache(maxsize=16)
def _special_ids(tokenizer: PreTrainedTokenizerBase, _size: int, named: Ids) -> frozenset[int]:
    """The same, cached per size and named special tokens, since tokens can be added to a tokenizer."""
    return frozenset({i for i, token in tokenizer.added_tokens_decoder.items() if token.special} | set(named))


def marker_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids of special tokens that can mark the end of a turn: all but the unknown token, and BOS unless it is also EOS."""
    # An unknown word of the content is not a marker, and neither is the BOS that some templates write before every user turn.
    return special_ids(tokenizer) - ({tokenizer.unk_token_id, tokenizer.bos_token_id} - {tokenizer.eos_token_id})


def marked_end(tokenizer: PreTrainedTokenizerBase, ids: Ids, start: int) -> int | None:
    """The index after the special token that closes [start, end of ids), ignoring white space after it; None if a word closes it.

    A turn that calls tools may end with a special marker (gpt-oss: `<|call|>`, Llama 3.1: `<|eom_id|>`).
    """
    markers = marker_ids(tokenizer)
    for at in range(len(ids) - 1, start - 1, -1):
        if ids[at] in markers:
            return at + 1
        if str(tokenizer.decode([ids[at]])).strip():
            return None
    return None


def unterminated(tokenizer: PreTrainedTokenizerBase, conversation: Conversation) -> Conversation:
    """The conversation without terminators at the end of assistant turns and of the last plain text.

    The template (or `palate.text.spans`) writes one, so a text that already ends with a terminator does not get two.
    """
    ends = _end_texts(tokenizer)
    last = len(conversation) - 1
    ended = [message.role == "assistant" or (message.role == "text" and i == last) for i, message in enumerate(conversation)]
    return tuple(_bare(message, ends) if is_ended else message for message, is_ended in zip(conversation, ended, strict=True))


def _bare(message: Message, ends: tuple[str, ...]) -> Message:
    text, end = _without(message.text, ends)
    return message if end is None else replace(message, text=text)


def written_end(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    """The id of the terminator that a plain text ends with, or EOS if it does not end with one."""
    _, end = _without(text, _end_texts(tokenizer))
    return eos_id(tokenizer) if end is None else cast("int", tokenizer.convert_tokens_to_ids(end))


def _end_texts(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    return _texts_of(tokenizer, end_ids(tokenizer), len(tokenizer))


@lru_cache(maxsize=16)
def _texts_of(tokenizer: PreTrainedTokenizerBase, ids: frozenset[int], _size: int) -> tuple[str, ...]:
    texts = cast("list[str | None]", tokenizer.convert_ids_to_tokens(sorted(ids)))
    return tuple(text for text in texts if text)  # a generation config may name ids that the tokenizer does not have


def _without(text: str, ends: tuple[str, ...]) -> tuple[str, str | None]:
    """The text without terminators at its end, and the first of those that stood there."""
    found = None
    while True:
        bare = text.rstrip()
        end = next((end for end in ends if bare.endswith(end)), None)
        if end is None:
            return text, found
        text, found = bare[: -len(end)], end


@lru_cache(maxsize=16)
def _turn_ends(tokenizer: PreTrainedTokenizerBase, template: str, eos: int) -> TurnEnds:
    """What closes turns in the chat template. The result is cached per template and EOS, since both can be replaced on a tokenizer."""

    def text(*conversation: Message) -> str | None:
        try:
            return write(tokenizer, template, conversation, generation_prompt=False)
        except Unusable:
            return None

    answered, asked_again = text(QUESTION, ANSWER), text(QUESTION, ANSWER, QUESTION)
    answer = _first_marker(tokenizer, answered, eos)
    if answer is None:
        answer = _first_marker(tokenizer, asked_again, eos)
    if "tool_calls" not in template:
        return TurnEnds(answer, None)
    calling = Message("assistant", "", CALL)
    called, told = text(QUESTION, calling), text(QUESTION, calling, Message("tool", "a"))
    if called is None or WORD not in called:
        return TurnEnds(answer, None)
    ids = encode(tokenizer, called)
    end = marked_end(tokenizer, ids, len(encode(tokenizer, called.partition(WORD)[0])))
    if end is not None:
        return TurnEnds(answer, ids[end - 1])
    next_turn = told.removeprefix(called) if told is not None and told.startswith(called) else ""
    return TurnEnds(answer, _first_marker(tokenizer, WORD + next_turn, eos))


def _first_marker(tokenizer: PreTrainedTokenizerBase, text: str | None, eos: int) -> int | None:
    """The first special token behind the last `WORD` of a text, or None if other words come before it."""
    if text is None or WORD not in text:
        return None
    markers = marker_ids(tokenizer)
    for token in encode(tokenizer, text.rpartition(WORD)[2]):
        if token == eos or token in markers:
            return token
        if str(tokenizer.decode([token])).strip():
            return None
    return None

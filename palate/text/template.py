"""Conversations to token ids with a Hugging Face tokenizer and its chat template; text is never cut, only tokens are.

Three kinds of conversation:

- chat roles and a tokenizer with a chat template: the template decides about every token, BOS included;
- chat roles and a tokenizer without one: `FALLBACK_TEMPLATE`, the transcripts of Anthropic's HH data, BOS as the tokenizer adds it;
- the role `text` throughout: the texts joined as they stand, BOS as the tokenizer adds it.

Tools and the calls of them (`tool_fields` of a message) are handed to the chat template, which writes them or is refused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from jinja2.exceptions import TemplateError

from palate.core import Conversation, DataError, Message, ModelError

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase

Ids = tuple[int, ...]

FALLBACK_TEMPLATE = (
    "{% for m in messages %}"
    "{% if m.role == 'assistant' %}{{ '\\n\\nAssistant: ' + m.content + eos_token }}"
    "{% elif m.role == 'user' %}{{ '\\n\\nHuman: ' + m.content }}"
    "{% else %}{{ '\\n\\n' + m.role | capitalize + ': ' + m.content }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\n\\nAssistant:' }}{% endif %}"
)
"""How chat roles are written when the tokenizer has no template; every assistant turn is closed with EOS."""

PROBE: Conversation = (Message("user", "a"), Message("assistant", "a"))
"""A conversation every chat template accepts; it shows how a template closes an assistant turn."""


class Unusable(DataError):  # noqa: N818 - says what the row is
    """A row from which no tree can be made. `reason` starts with words that are the same for all rows of the kind."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    @property
    def kind(self) -> str:
        """The reason without what differs from row to row."""
        return self.reason.partition(":")[0]


def is_plain_text(conversation: Conversation) -> bool:
    """Whether every message has the role `text`.

    Raises:
        Unusable: there is no message, or `text` is mixed with chat roles.
    """
    if not conversation:
        raise Unusable("no message")
    plain = [message.role == "text" for message in conversation]
    if any(plain) and not all(plain):
        raise Unusable("the role `text` is mixed with chat roles")
    return plain[0]


def render(tokenizer: PreTrainedTokenizerBase, conversation: Conversation, *, generation_prompt: bool) -> Ids:
    """Token ids of the conversation as template and tokenizer write it; BOS at most once at its head.

    Plain text gets no EOS here. Terminators at the end of assistant turns and of plain text are taken off first, because
    the template (or `palate.text.spans`) writes one: a text that ends with one already does not get two.

    Args:
        tokenizer: with or without a chat template.
        conversation: one message or more.
        generation_prompt: whether to open an assistant turn at the end (no effect on plain text).

    Raises:
        Unusable: the template refuses the conversation, or would leave out its tools.
        ModelError: an assistant turn is to be opened and the template cannot.
    """
    if is_plain_text(conversation):
        return _opened(tokenizer, _encode(tokenizer, "".join(message.text for message in _unterminated(tokenizer, conversation))))
    template = _template(tokenizer, has_tools="tools" in _tool_fields(conversation[0]))
    if generation_prompt:
        _require_generation_prompt(tokenizer, template)
    ids = _apply(template, tokenizer, _unterminated(tokenizer, conversation), generation_prompt=generation_prompt)
    return _opened(tokenizer, ids) if tokenizer.chat_template is None else _single_bos(tokenizer, ids)


def end_ids(tokenizer: PreTrainedTokenizerBase, generation_config: GenerationConfig | None = None) -> frozenset[int]:
    """Ids any of which ends a completion: the tokenizer's EOS, the generation config's, and what the chat template closes a turn with.

    Raises:
        ModelError: the tokenizer has no EOS token.
    """
    eos = eos_id(tokenizer)
    found = {eos}
    if generation_config is not None:
        configured = cast("int | Sequence[int] | None", generation_config.eos_token_id)
        found.update([configured] if isinstance(configured, int) else configured or ())
    closing = _closing_id(tokenizer, _template(tokenizer), eos)
    return frozenset(found if closing is None else found | {closing})


def eos_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The tokenizer's EOS id.

    Raises:
        ModelError: it has none, so no completion could end.
    """
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"the tokenizer {tokenizer.name_or_path} has no EOS token, so no completion could end. "
            "Set `eos_token` in its tokenizer_config.json"
        )
    return cast("int", tokenizer.eos_token_id)


def marker_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids of special tokens that can mark where a turn ends: all but the unknown token and a BOS that is not EOS too."""
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special} | set(tokenizer.all_special_ids)
    # An unknown word of the content must not pass for a marker, nor the BOS some templates write before every user turn.
    return frozenset(special - ({tokenizer.unk_token_id, tokenizer.bos_token_id} - {tokenizer.eos_token_id}))


@lru_cache(maxsize=16)
def opening_ids(tokenizer: PreTrainedTokenizerBase) -> Ids:
    """Ids the tokenizer puts before a text (BOS, mostly); () when it adds none."""
    bare, full = _encode(tokenizer, "a"), tuple(cast("list[int]", tokenizer("a").input_ids))
    starts = (k for k in range(len(full) - len(bare) + 1) if full[k : k + len(bare)] == bare)
    return full[: next(starts, 0)]


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> Ids:
    # verbose=False: a text longer than model_max_length is cut or dropped by the caller, who says so.
    return tuple(cast("list[int]", tokenizer(text, add_special_tokens=False, verbose=False).input_ids))


def _opened(tokenizer: PreTrainedTokenizerBase, ids: Ids) -> Ids:
    opening = opening_ids(tokenizer)
    return ids if ids[: len(opening)] == opening else opening + ids


def _single_bos(tokenizer: PreTrainedTokenizerBase, ids: Ids) -> Ids:
    """`ids` with one BOS at the head where the template and the text both wrote one."""
    while len(ids) > 1 and ids[0] == ids[1] == tokenizer.bos_token_id:
        ids = ids[1:]
    return ids


def _template(tokenizer: PreTrainedTokenizerBase, *, has_tools: bool = False) -> str:
    """The tokenizer's template, or its one for tools where it keeps two."""
    return FALLBACK_TEMPLATE if tokenizer.chat_template is None else tokenizer.get_chat_template(tools=[{}] if has_tools else None)


def _tool_fields(message: Message) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(message.tool_fields)) if message.tool_fields else {}


def _apply(template: str, tokenizer: PreTrainedTokenizerBase, conversation: Conversation, *, generation_prompt: bool) -> Ids:
    turns = [{"role": message.role, "content": message.text, **_tool_fields(message)} for message in conversation]
    tools = turns[0].pop("tools", None)
    # A template that does not name them leaves them out in silence, and the model would learn calls of what it was never shown.
    for name, is_there in (("tools", tools), ("tool_calls", any("tool_calls" in turn for turn in turns))):
        if is_there and name not in template:
            raise Unusable(f"the chat template does not write `{name}`: take a tokenizer whose template does")
    try:
        ids = tokenizer.apply_chat_template(
            turns,
            tools=tools,
            chat_template=template,
            add_generation_prompt=generation_prompt,
            return_dict=False,
            tokenizer_kwargs={"verbose": False},
        )
    except (TemplateError, TypeError) as error:  # TypeError: a template that joins texts meets something else, such as arguments
        raise Unusable(f"the chat template refuses the conversation: {error}") from error
    return tuple(cast("list[int]", ids))


@lru_cache(maxsize=16)
def _require_generation_prompt(tokenizer: PreTrainedTokenizerBase, template: str) -> None:
    """Nothing, when the template can open an assistant turn, or writes nothing before one (Llama 2: `[/INST]` closes the user's).

    Raises:
        ModelError: it opens assistant turns with a header and has no generation prompt that writes it.
    """
    said = "What is said."
    asked = [{"role": "user", "content": "a"}]

    def written(turns: list[dict[str, str]], *, opened: bool) -> str:
        return cast("str", tokenizer.apply_chat_template(turns, chat_template=template, add_generation_prompt=opened, tokenize=False))

    try:
        bare, opened = written(asked, opened=False), written(asked, opened=True)
        answered = written([*asked, {"role": "assistant", "content": said}], opened=False)
    except TemplateError:
        return  # rows say what the template refuses
    if bare != opened or not answered.startswith(bare):
        return
    header = answered[len(bare) :].partition(said)[0]
    if header.strip():
        remedy = f"{{% if add_generation_prompt %}}{header.encode('unicode_escape').decode()}{{% endif %}}"
        raise ModelError(
            f"the chat template of {tokenizer.name_or_path} has no generation prompt: it opens answers with {header!r}, which would be "
            f"left to every completion to write. End the template with {remedy}, or use the chat model's own tokenizer"
        )


def _unterminated(tokenizer: PreTrainedTokenizerBase, conversation: Conversation) -> Conversation:
    """The conversation with no terminator written at the end of an assistant turn or of the last plain text."""
    ends = tuple(tokenizer.convert_ids_to_tokens(sorted(end_ids(tokenizer))))
    last = len(conversation) - 1
    ended = [message.role == "assistant" or (message.role == "text" and i == last) for i, message in enumerate(conversation)]
    return tuple(
        replace(message, text=_without(message.text, ends)) if is_ended else message
        for message, is_ended in zip(conversation, ended, strict=True)
    )


def _without(text: str, ends: tuple[str, ...]) -> str:
    while True:
        bare = text.rstrip()
        end = next((end for end in ends if bare.endswith(end)), None)
        if end is None:
            return text
        text = bare[: -len(end)]


@lru_cache(maxsize=16)
def _closing_id(tokenizer: PreTrainedTokenizerBase, template: str, eos: int) -> int | None:
    """Id of the special token with which the chat template closes an assistant turn; None if it closes with none.

    Remembered for each template and EOS, which a tokenizer can be given anew.
    """
    try:
        ids = _apply(template, tokenizer, PROBE, generation_prompt=False)
    except Unusable:
        return None
    markers = marker_ids(tokenizer)
    for token in reversed(ids):
        if token == eos or token in markers:
            return token
        if str(tokenizer.decode([token])).strip():
            return None
    return None

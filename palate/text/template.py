"""Turn conversations into token ids with a Hugging Face tokenizer and its chat template. Only tokens are cut, never text.

Three kinds of conversation:

- chat roles and a tokenizer with a chat template: the template decides every token, including BOS;
- chat roles and a tokenizer without one: `FALLBACK_TEMPLATE` (transcripts as in Anthropic's HH data), with BOS if the tokenizer adds it;
- only the role `text`: the joined texts, with BOS if the tokenizer adds it.

Tools and calls (`tool_fields` of a message) go to the chat template. A template that does not write them is an error.
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
"""The template of chat roles if the tokenizer does not have one. EOS closes every assistant turn."""

PROBE: Conversation = (Message("user", "a"), Message("assistant", "a"))
"""A conversation that every chat template accepts. It shows how a template closes an assistant turn."""


class Unusable(DataError):  # noqa: N818 - says what the row is
    """A row that cannot become a tree. The words of `reason` before a colon are the same for all rows of a kind."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    @property
    def kind(self) -> str:
        """The part of the reason that is the same for all rows of its kind."""
        return self.reason.partition(":")[0]


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
        Unusable: the template refuses the conversation, or would leave out its tools.
        ModelError: the template cannot open an assistant turn.
    """
    if is_plain_text(conversation):
        return _opened(tokenizer, _encode(tokenizer, "".join(message.text for message in _unterminated(tokenizer, conversation))))
    template = _template(tokenizer, has_tools="tools" in _tool_fields(conversation[0]))
    if generation_prompt:
        _require_generation_prompt(tokenizer, template)
    ids = _apply(template, tokenizer, _unterminated(tokenizer, conversation), generation_prompt=generation_prompt)
    return _opened(tokenizer, ids) if tokenizer.chat_template is None else _single_bos(tokenizer, ids)


def end_ids(tokenizer: PreTrainedTokenizerBase, generation_config: GenerationConfig | None = None) -> frozenset[int]:
    """Ids that end a completion: the EOS of the tokenizer and of the generation config, and the token that closes a turn in the template.

    Raises:
        ModelError: the tokenizer has no EOS token.
    """
    eos = eos_id(tokenizer)
    ids = {eos}
    if generation_config is not None:
        configured = cast("int | Sequence[int] | None", generation_config.eos_token_id)
        ids.update([configured] if isinstance(configured, int) else configured or ())
    closing = _closing_id(tokenizer, _template(tokenizer), eos)
    return frozenset(ids if closing is None else ids | {closing})


def eos_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The tokenizer's EOS id.

    Raises:
        ModelError: it does not have one, so completions could not end.
    """
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"the tokenizer {tokenizer.name_or_path} has no EOS token, so no completion could end. "
            "Set `eos_token` in its tokenizer_config.json."
        )
    return cast("int", tokenizer.eos_token_id)


def marker_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids of special tokens that can mark the end of a turn: all but the unknown token, and BOS unless it is also EOS."""
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special} | set(tokenizer.all_special_ids)
    # An unknown word of the content is not a marker, and neither is the BOS that some templates write before every user turn.
    return frozenset(special - ({tokenizer.unk_token_id, tokenizer.bos_token_id} - {tokenizer.eos_token_id}))


@lru_cache(maxsize=16)
def opening_ids(tokenizer: PreTrainedTokenizerBase) -> Ids:
    """Ids that the tokenizer puts before a text (usually BOS), or ()."""
    bare, full = _encode(tokenizer, "a"), tuple(cast("list[int]", tokenizer("a").input_ids))
    starts = (k for k in range(len(full) - len(bare) + 1) if full[k : k + len(bare)] == bare)
    return full[: next(starts, 0)]


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> Ids:
    # verbose=False: the caller cuts or drops a text longer than model_max_length, and reports it.
    return tuple(cast("list[int]", tokenizer(text, add_special_tokens=False, verbose=False).input_ids))


def _opened(tokenizer: PreTrainedTokenizerBase, ids: Ids) -> Ids:
    opening = opening_ids(tokenizer)
    return ids if ids[: len(opening)] == opening else opening + ids


def _single_bos(tokenizer: PreTrainedTokenizerBase, ids: Ids) -> Ids:
    """`ids` with one BOS at the head, even if the template and the text both wrote one."""
    while len(ids) > 1 and ids[0] == ids[1] == tokenizer.bos_token_id:
        ids = ids[1:]
    return ids


def _template(tokenizer: PreTrainedTokenizerBase, *, has_tools: bool = False) -> str:
    """The tokenizer's template, or its template for tools if it has two."""
    return FALLBACK_TEMPLATE if tokenizer.chat_template is None else tokenizer.get_chat_template(tools=[{}] if has_tools else None)


def _tool_fields(message: Message) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(message.tool_fields)) if message.tool_fields else {}


def _apply(template: str, tokenizer: PreTrainedTokenizerBase, conversation: Conversation, *, generation_prompt: bool) -> Ids:
    turns = [{"role": message.role, "content": message.text, **_tool_fields(message)} for message in conversation]
    tools = turns[0].pop("tools", None)
    # A template that does not name the tools leaves them out silently, and the model would learn to call tools that it never saw.
    for name, is_present in (("tools", tools), ("tool_calls", any("tool_calls" in turn for turn in turns))):
        if is_present and name not in template:
            raise Unusable(f"the chat template does not write `{name}`: use a tokenizer whose template does")
    try:
        ids = tokenizer.apply_chat_template(
            turns,
            tools=tools,
            chat_template=template,
            add_generation_prompt=generation_prompt,
            return_dict=False,
            tokenizer_kwargs={"verbose": False},
        )
    except (TemplateError, TypeError) as error:  # TypeError: a template joins texts with something else, such as arguments
        raise Unusable(f"the chat template refuses the conversation: {error}") from error
    return tuple(cast("list[int]", ids))


@lru_cache(maxsize=16)
def _require_generation_prompt(tokenizer: PreTrainedTokenizerBase, template: str) -> None:
    """Check that the template can open an assistant turn, or writes no header before one (Llama 2: `[/INST]` closes the user's turn).

    Raises:
        ModelError: the template opens assistant turns with a header, and does not have a generation prompt that writes it.
    """
    answer = "What is said."
    question = [{"role": "user", "content": "a"}]

    def written(turns: list[dict[str, str]], *, opened: bool) -> str:
        return cast("str", tokenizer.apply_chat_template(turns, chat_template=template, add_generation_prompt=opened, tokenize=False))

    try:
        bare, opened = written(question, opened=False), written(question, opened=True)
        answered = written([*question, {"role": "assistant", "content": answer}], opened=False)
    except TemplateError:
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


def _unterminated(tokenizer: PreTrainedTokenizerBase, conversation: Conversation) -> Conversation:
    """The conversation without terminators at the end of assistant turns and of the last plain text."""
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
    """The id of the special token that closes an assistant turn in the chat template, or None.

    The result is cached per template and EOS, since both can be replaced on a tokenizer.
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

"""Write conversations as text with a chat template. The other modules of the room read what is written here.

A template decides how contents are handed over (as text or as a list of parts), and may write the date. Both are settled here, once.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from jinja2.exceptions import TemplateError

from palate.core import Conversation, DataError, Message, ModelError, Role

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ids = tuple[int, ...]

FALLBACK_TEMPLATE = (
    "{% for m in messages %}"
    "{% if m.role == 'assistant' %}{{ '\\n\\nAssistant: ' + m.content + eos_token }}"
    "{% elif m.role == 'user' %}{{ '\\n\\nHuman: ' + m.content }}"
    "{% else %}{{ '\\n\\n' + m.role | capitalize + ': ' + m.content }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\n\\nAssistant:' }}{% endif %}"
)
"""The template of chat roles if the tokenizer does not have one, without BOS. EOS closes every assistant turn."""

TODAY = datetime(2025, 1, 1)
"""The date that every template is given, so that a run does not depend on the day and the time zone in which it starts."""

_NOW = re.compile(r"""strftime_now\(\s*(?P<quote>['"])(?P<format>.*?)(?P=quote)\s*\)""")

WORD = "Ab7probe"
"""What turns of probes say. No template writes it by itself."""

CALL = json.dumps(
    {"tool_calls": [{"id": "call00001", "type": "function", "function": {"name": "f", "arguments": {"a": WORD}}}]}, ensure_ascii=False
)
"""The fields of a probe's turn that calls a tool."""


class Unusable(DataError):  # noqa: N818 - says what the row is
    """A row that cannot become a tree. The words of `reason` before a colon are the same for all rows of a kind."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    @property
    def kind(self) -> str:
        """The part of the reason that is the same for all rows of its kind."""
        return self.reason.partition(":")[0]


def template_of(tokenizer: PreTrainedTokenizerBase, *, has_tools: bool = False) -> str:
    """The tokenizer's chat template, or its template for tools if it has two; the fallback for a tokenizer without one.

    The fallback writes what the tokenizer puts before a text, so that a tokenizer with this template gives the same ids elsewhere.
    """
    if tokenizer.chat_template is not None:
        return cast("str", tokenizer.get_chat_template(tools=[{}] if has_tools else None))
    opening = opening_ids(tokenizer)
    if not opening:
        return FALLBACK_TEMPLATE
    if opening == (tokenizer.bos_token_id,):
        return "{{ bos_token }}" + FALLBACK_TEMPLATE
    return "{{ " + json.dumps("".join(cast("list[str]", tokenizer.convert_ids_to_tokens(list(opening))))) + " }}" + FALLBACK_TEMPLATE


def writes_date(template: str) -> bool:
    """Whether the template writes the day on which it is used."""
    return "strftime_now" in template


@lru_cache(maxsize=16)
def _undated(template: str) -> str:
    """The template with `TODAY` in place of the day on which it is used. transformers takes no other clock."""
    return _NOW.sub(lambda call: json.dumps(TODAY.strftime(call["format"])), template)


def fields_of(message: Message) -> dict[str, Any]:
    """What a message says besides its text: tools, calls, thoughts."""
    return cast("dict[str, Any]", json.loads(message.tool_fields)) if message.tool_fields else {}


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> Ids:
    """The ids of a text, without what the tokenizer puts before and after texts."""
    # verbose=False: the caller cuts or drops a text longer than model_max_length, and reports it.
    return tuple(cast("list[int]", tokenizer(text, add_special_tokens=False, verbose=False).input_ids))


@lru_cache(maxsize=16)
def opening_ids(tokenizer: PreTrainedTokenizerBase) -> Ids:
    """Ids that the tokenizer puts before a text (usually BOS), or ()."""
    bare, full = encode(tokenizer, "a"), tuple(cast("list[int]", tokenizer("a").input_ids))
    starts = (k for k in range(len(full) - len(bare) + 1) if full[k : k + len(bare)] == bare)
    return full[: next(starts, 0)]


def write(tokenizer: PreTrainedTokenizerBase, template: str, conversation: Conversation, *, generation_prompt: bool) -> str:
    """The conversation as the template writes it.

    Raises:
        Unusable: the template refuses the conversation, or would leave out its tools.
        ModelError: the template does not write contents in any form.
    """
    return _write(tokenizer, template, (tokenizer.bos_token, tokenizer.eos_token), conversation, generation_prompt)


@lru_cache(maxsize=64)
def _write(
    tokenizer: PreTrainedTokenizerBase,
    template: str,
    _ends: tuple[object, object],  # they can be replaced on a tokenizer, so they belong to the key of the cache
    conversation: Conversation,
    generation_prompt: bool,  # noqa: FBT001 - a key of the cache
) -> str:
    turns = [
        {
            "role": message.role,
            "content": _content(message.text, parts=_takes_parts(tokenizer, template, message.role)),
            **fields_of(message),
        }
        for message in conversation
    ]
    # A template that does not name the tools leaves them out silently, and the model would learn to call tools that it never saw.
    for name, is_present in (("tools", "tools" in turns[0]), ("tool_calls", any("tool_calls" in turn for turn in turns))):
        if is_present and name not in template:
            raise Unusable(f"the chat template does not write `{name}`: use a tokenizer whose template does")
    try:
        return _applied(tokenizer, template, turns, generation_prompt=generation_prompt)
    except (TemplateError, TypeError) as error:  # TypeError: a template joins texts with something else, such as arguments
        raise Unusable(f"the chat template refuses the conversation: {error}") from error


def _applied(tokenizer: PreTrainedTokenizerBase, template: str, turns: list[dict[str, Any]], *, generation_prompt: bool) -> str:
    first, *rest = turns
    messages = [{name: value for name, value in first.items() if name != "tools"}, *rest]
    text = tokenizer.apply_chat_template(
        messages,
        tools=first.get("tools"),
        chat_template=_undated(template),
        add_generation_prompt=generation_prompt,
        tokenize=False,
    )
    return cast("str", text)


def _content(text: str, *, parts: bool) -> object:
    return [{"type": "text", "text": text}] if parts else text


@lru_cache(maxsize=64)
def _takes_parts(tokenizer: PreTrainedTokenizerBase, template: str, role: Role) -> bool:
    """Whether the template reads contents of this role only as a list of parts (SmolVLM's way); a text would be left out silently.

    Raises:
        ModelError: it writes what users or assistants say in neither form.
    """
    if role == "tool":
        return _takes_parts(tokenizer, template, "user")
    refused = False
    for parts in (False, True):
        turn: dict[str, Any] = {"role": role, "content": _content(WORD, parts=parts)}
        if role == "user":
            turns = [turn]
        else:
            other = {"role": "user", "content": _content("a", parts=_takes_parts(tokenizer, template, "user"))}
            turns = [turn, other] if role == "system" else [other, turn]
        try:
            if WORD in _applied(tokenizer, template, turns, generation_prompt=False):
                return parts
        except (TemplateError, TypeError):
            refused = True  # the rows that the template refuses are reported one by one
    if role == "system" or refused:
        return role != "user" and _takes_parts(tokenizer, template, "user")
    raise ModelError(
        f"the chat template of {tokenizer.name_or_path} does not write what the {role} says, neither as text nor as a list of parts. "
        "Use the chat model's own tokenizer, or a template that writes `content`"
    )

"""Rows for files: the readers' inverse, in TRL's shapes. Use with `palate.data.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from palate.core import Completion, Conversation, DataError, Demonstration, Message, Preference, Prompt, UnpairedPreference
from palate.data.formats.chats import answering_turns

Row = dict[str, object]


def demonstration_row(demonstration: Demonstration) -> Row:
    """`text`, `prompt` and `completion`, or `messages` (with `learned` when not every answer is); the source is not kept.

    Raises:
        DataError: plain text of which something else than the last message is learned, or turns that are not answers.
    """
    turns, learned = demonstration.conversation, demonstration.learned
    answers = answering_turns(turns)
    if turns[0].role != "text" and set(learned) <= set(answers) and learned:
        every = {} if tuple(sorted(learned)) == answers else {"learned": sorted(learned)}
        return {"messages": turns_of(turns), **every, **tools_of(turns)}
    if turns[0].role != "text" or learned != (len(turns) - 1,):
        raise DataError(
            f"a demonstration that no shape can hold: roles {[turn.role for turn in turns]}, learned {learned}. Learn answers only."
        )
    if len(turns) == 1:
        return {"text": turns[0].text}
    return {"prompt": _joined(turns[:-1]), "completion": turns[-1].text}


def prompt_row(prompt: Prompt) -> Row:
    """`id`, `prompt`, and the fields as columns; the source is not kept."""
    return {"id": prompt.id, "prompt": _prompt(prompt.conversation), **tools_of(prompt.conversation), **_fields(prompt.fields)}


def preference_row(preference: Preference) -> Row:
    """`id`, `prompt`, `chosen`, `rejected`, what else the preference says, and the prompt's fields as columns.

    Of the completions only texts and calls are kept.
    """
    is_plain = preference.prompt.conversation[0].role == "text"

    def side(said: Completion) -> object:
        return said.text if is_plain else turns_of((Message("assistant", said.text, said.tool_fields),))

    judgments: Row = {"judgments": list(preference.judgments)} if preference.judgments else {}
    return {
        "id": preference.prompt.id,
        "prompt": _prompt(preference.prompt.conversation),
        "chosen": side(preference.chosen),
        "rejected": side(preference.rejected),
        "probability": preference.probability,
        "margin": preference.margin,
        "weight": preference.weight,
        "dimension": preference.dimension,
        **judgments,
        **tools_of(preference.prompt.conversation),
        **_fields(preference.prompt.fields),
    }


def thumb_row(thumb: UnpairedPreference) -> Row:
    """`id`, `prompt`, `completion`, `label`, `weight`, and the prompt's fields as columns; of the completion text and calls."""
    is_plain = thumb.prompt.conversation[0].role == "text"
    said = thumb.completion
    return {
        "id": thumb.id,
        "prompt": _prompt(thumb.prompt.conversation),
        "completion": said.text if is_plain else turns_of((Message("assistant", said.text, said.tool_fields),)),
        "label": thumb.desirable,
        "weight": thumb.weight,
        **tools_of(thumb.prompt.conversation),
        **_fields(thumb.prompt.fields),
    }


_TAKEN = frozenset({"id", "prompt", "completion", "chosen", "rejected", "messages", "conversations", "text", "learned"}) | frozenset(
    {"probability", "margin", "weight", "dimension", "judgments", "label"}
)


def _fields(fields: Mapping[str, object]) -> Row:
    if taken := sorted(_TAKEN & fields.keys()):
        raise DataError(f"the prompt's fields {', '.join(taken)} are names of columns with a meaning of their own. Rename them.")
    return dict(fields)


def _prompt(conversation: Conversation) -> object:
    return _joined(conversation) if conversation[0].role == "text" else turns_of(conversation)


def _joined(conversation: Conversation) -> str:
    return "".join(turn.text for turn in conversation)


def turns_of(conversation: Conversation) -> list[dict[str, Any]]:
    """Turns as {role, content}, with calls and whose results they are; the conversation's tools are a column of their own."""
    return [{"role": turn.role, "content": turn.text, **_fields_of(turn, tools=False)} for turn in conversation]


def tools_of(conversation: Conversation) -> Row:
    """The column `tools`, where the conversation has any."""
    return _fields_of(conversation[0], tools=True)


def _fields_of(turn: Message, *, tools: bool) -> Row:
    said: Row = json.loads(turn.tool_fields) if turn.tool_fields else {}
    return {name: value for name, value in said.items() if (name == "tools") == tools}

r"""Conversations as outside rows write them: lists of messages, transcripts, plain texts, calls of tools, thoughts and weights.

Transcripts are `"\n\nHuman: ...\n\nAssistant: ..."` (Anthropic's HH) or `"Human: ...\nAssistant: ...\n"` (OASST pairs).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from palate.core import THOUGHT_FIELDS, Conversation, Message, Role
from palate.data.cells import InvalidRow, choice, filled, mapping, present, quoted, sequence, text

ROLES: Mapping[str, Role] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "developer": "system",
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "function": "tool",
    "observation": "tool",
    "text": "text",
}
"""Role names in data (OpenAI's, ShareGPT's, Gemma's) and Palate's role for each. `text` is plain text that looks like something else."""

TRAINED_FIELDS = ("train", "training", "loss")
"""Names of a message's field that is false where the message is read and not learned (axolotl's, ms-swift's)."""

CONTEXT_ROLES = ("user", "tool")
"""Roles that an assistant turn can answer."""

_TURN = re.compile(r"\r?\n\r?\n(Human|Assistant|System):")
_CLOSE_TURN = re.compile(r"(?:^|\r?\n)(Human|Assistant|System): ?")
_BEGINNING = re.compile(r"(?:\r?\n)+Human:|Human: ")
_BLANK_LINE = re.compile(r"\r?\n\r?\n")
_SPEAKERS: Mapping[str, Role] = {"Human": "user", "Assistant": "assistant", "System": "system"}


def conversation(value: object, field: str) -> Conversation:
    """Messages of a list of {role, content} (or ShareGPT's {from, value}). Raises InvalidRow for anything else, or an empty turn."""
    if not isinstance(value, list | tuple):
        raise InvalidRow(f"`{field}` is not a list of messages: {quoted(value)}")
    if not value:
        raise InvalidRow(f"empty `{field}`")
    return tuple(_message(entry, f"`{field}` turn {number}") for number, entry in enumerate(value, start=1))


def unweighted(value: object, turns: Conversation, field: str) -> frozenset[int]:
    """Numbers of the turns whose own fields say that they are read and not learned: `weight` 0, or `train` (or a kin) false.

    Args:
        value: the list of messages as the row has it.
        turns: the same list as a conversation.
        field: the column, for messages.

    Raises:
        InvalidRow: a weight is another number than 0 or 1, which would be learned as 1.
    """
    entries = cast("Sequence[Mapping[str, object]]", sequence(value, field))
    return frozenset(
        number
        for number, (entry, turn) in enumerate(zip(entries, turns, strict=True))
        if turn.role == "assistant" and not _is_weighted(entry, f"`{field}` turn {number + 1}")
    )


def _is_weighted(entry: Mapping[str, object], where: str) -> bool:
    weight = entry.get("weight")
    if weight is not None and weight not in (0, 1):
        raise InvalidRow(f"a message's `weight` is neither 0 nor 1: {where} has {quoted(weight)}; a turn is learned or it is not")
    return weight != 0 and not any(entry.get(name) is False for name in TRAINED_FIELDS)


def conversation_or_text(value: object, field: str) -> Conversation:
    """Messages of a list, or a text as the user's turn. Raises InvalidRow for anything else, or an empty turn.

    A message may have Label Studio's names `author` and `text` in place of `role` and `content`.
    """
    if isinstance(value, str):
        return (Message("user", filled(value, field)),)
    return conversation([_with_usual_names(turn) for turn in sequence(value, field)], field)


def possibly_empty_turns(value: object, field: str) -> Conversation:
    """Messages of {role, content} whose texts may be empty, since a model may answer nothing. Raises InvalidRow for anything else."""
    entries = [mapping(entry, field) for entry in sequence(value, field)]
    roles = [choice(entry.get("role"), f"{field}.role", tuple(ROLES)) for entry in entries]
    texts = (text(present(entry, "content"), f"{field}.content") for entry in entries)
    return tuple(Message(ROLES[role], content) for role, content in zip(roles, texts, strict=True))


def prompt_of(value: object) -> Conversation:
    """The conversation in a `prompt` column. Raises InvalidRow if it is empty or already ends with an assistant turn."""
    if isinstance(value, str):
        plain = filled(value, "prompt")
        return _prompt_of_transcript(plain) if is_transcript(plain) else (Message("text", plain),)
    turns = conversation(value, "prompt")
    check_is_unanswered(turns)
    return turns


def check_is_unanswered(prompt: Conversation) -> None:
    """Check that the prompt ends with a turn that the assistant can answer. Raises InvalidRow otherwise."""
    if prompt[-1].role not in CONTEXT_ROLES and not is_plain(prompt):
        raise InvalidRow(f"the prompt does not end with a turn to answer: its last turn is {prompt[-1].role}")


def is_plain(turns: Conversation) -> bool:
    """Whether the turns are plain text, outside any chat template."""
    return all(turn.role == "text" for turn in turns)


def is_transcript(value: object) -> bool:
    """Whether the value is a string that begins as transcripts do."""
    return isinstance(value, str) and _BEGINNING.match(value) is not None


def transcript_turns(transcript: str) -> Conversation:
    """The turns without white space around them. A blank line joins successive turns of one speaker.

    Raises:
        InvalidRow: the text does not begin as a transcript does.
    """
    pieces = (_TURN if _BLANK_LINE.match(transcript) else _CLOSE_TURN).split(transcript)
    turns: list[Message] = []
    for speaker, words in zip(pieces[1::2], pieces[2::2], strict=True):
        role = _SPEAKERS[speaker]
        if turns and turns[-1].role == role:
            turns[-1] = Message(role, f"{turns[-1].text}\n\n{words.strip()}".strip())
        else:
            turns.append(Message(role, words.strip()))
    if not turns:
        raise InvalidRow("not a transcript: it does not begin with Human:")
    return tuple(turns)


def shared_length(one: Sequence[object], other: Sequence[object]) -> int:
    """How many items both begin with."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def tool_fields(turn: Mapping[Any, object], role: Role, where: str) -> str:
    """The `tool_fields` of a message as a row writes it: thoughts, calls, and what a result says of its call.

    Raises:
        InvalidRow: thoughts are not a text, or calls have a form that no template reads.
    """
    if turn.get("function_call"):
        raise InvalidRow(f"`function_call` is not read: {where}; write it as `tool_calls`")
    fields: dict[str, object] = {}
    for name in THOUGHT_FIELDS:
        thought = turn.get(name)
        if thought is None or thought == "":
            continue
        if role != "assistant" or not isinstance(thought, str):
            raise InvalidRow(f"`{name}` is not the text of an assistant's thoughts: {where} has {quoted(thought)}")
        fields[name] = text(thought, name)
    if turn.get("tool_calls"):
        if role != "assistant":
            raise InvalidRow(f"tools are called by another turn than the assistant's: {where}")
        fields["tool_calls"] = _calls(turn["tool_calls"], where)
    if role == "tool":
        fields |= {name: turn[name] for name in ("name", "tool_call_id") if isinstance(turn.get(name), str)}
    return json.dumps(fields, ensure_ascii=False) if fields else ""


def json_or_none(written: str) -> object:
    """The JSON value in a text, or None if it does not hold one."""
    try:
        return json.loads(written)
    except ValueError:
        return None


def without_nulls(value: object) -> object:
    """The value without null entries of objects. In Parquet every call has the arguments of all calls, most of them null."""
    if isinstance(value, dict):
        return {key: without_nulls(entry) for key, entry in value.items() if entry is not None}
    return [without_nulls(entry) for entry in value] if isinstance(value, list | tuple) else value


def _prompt_of_transcript(transcript: str) -> Conversation:
    """The turns up to an open `Assistant:` at the end. Raises InvalidRow if the last turn is a written assistant turn."""
    turns = transcript_turns(transcript)
    if turns[-1].role == "assistant":
        if turns[-1].text:
            raise InvalidRow("the prompt does not end with a turn to answer: its last turn is assistant")
        turns = turns[:-1]
    if any(not turn.text for turn in turns):
        raise InvalidRow("empty turn: in the transcript of `prompt`")
    return turns


def _message(entry: object, where: str) -> Message:
    if not isinstance(entry, dict):
        raise InvalidRow(f"a message is not a mapping: {where} is {quoted(entry)}")
    fields = cast("dict[object, object]", entry)
    role_name = fields.get("role", fields.get("from"))
    content = fields.get("content", fields.get("value"))
    if not isinstance(role_name, str) or role_name.lower() not in ROLES:
        raise InvalidRow(f"unknown role: {where} has {role_name!r}; use one of {', '.join(ROLES)}")
    content = "".join(_part(part, where) for part in content) if isinstance(content, list | tuple) else content
    role = ROLES[role_name.lower()]
    calls = tool_fields(fields, role, where)
    may_be_empty = role == "assistant" and bool(fields.get("tool_calls"))
    if content is None and may_be_empty:
        content = ""
    if not isinstance(content, str):
        raise InvalidRow(f"a message without text: {where} has {quoted(content)}")
    if role != "system" and not content.strip() and not may_be_empty:
        raise InvalidRow("empty completion" if role == "assistant" else f"empty turn: {where} ({role_name})")
    return Message(role, text(content, "content"), calls)


def _part(part: object, where: str) -> str:
    """The text of one part, where a message is a list of parts."""
    fields = cast("dict[object, object]", part) if isinstance(part, dict) else {}
    content = fields.get("text")
    if fields.get("type") != "text" or not isinstance(content, str):
        raise InvalidRow(f"a message part that is not text: {where} has {fields.get('type')!r}")
    return content


def _with_usual_names(turn: object) -> object:
    """A message with Label Studio's `author` and `text` as `role` and `content`."""
    if not isinstance(turn, dict) or not {"author", "text"} & turn.keys():
        return turn
    return {"role": turn.get("role", turn.get("author")), "content": turn.get("content", turn.get("text")), **turn}


def _calls(value: object, where: str) -> list[object]:
    calls = json_or_none(value) if isinstance(value, str) else value
    if not isinstance(calls, list | tuple) or not all(isinstance(call, dict) for call in calls):
        raise InvalidRow(f"`tool_calls` is not a list of calls: {where}")
    return [_call(cast("dict[str, object]", without_nulls(call)), where) for call in calls]


def _call(call: dict[str, object], where: str) -> dict[str, object]:
    """The call with its arguments as an object. APIs give them as JSON text, which a template would write as a quoted string."""
    inner = call.get("function", call)
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        raise InvalidRow(f"a call without the name of its function: {where}")
    if isinstance(inner.get("arguments"), str):
        arguments = json_or_none(inner["arguments"])
        if not isinstance(arguments, dict):
            raise InvalidRow(f"the arguments of a call are not a JSON object: {where}")
        inner = {**inner, "arguments": arguments}
    return {**call, "function": inner} if "function" in call else inner

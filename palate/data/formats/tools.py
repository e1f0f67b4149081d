"""What rows say about tools: the functions a conversation may call, the calls of a turn, and whose result a tool's turn is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from palate.core import Conversation, Message, Role
from palate.data.formats.row_types import (
    Columns,
    Content,
    Dialogue,
    Document,
    InvalidRow,
    LabelledCompletion,
    PairRow,
    Question,
    RatedGroups,
)


def tool_fields(turn: Mapping[Any, object], role: Role, where: str) -> str:
    """The `tool_fields` of a message as it stands in a row. Raises Unfit for calls in a form that no template reads."""
    if turn.get("function_call"):
        raise InvalidRow(f"`function_call` is not read: {where}; write it as `tool_calls`")
    said: dict[str, object] = {}
    if turn.get("tool_calls"):
        if role != "assistant":
            raise InvalidRow(f"tools are called by another turn than the assistant's: {where}")
        said["tool_calls"] = _calls(turn["tool_calls"], where)
    if role == "tool":
        said |= {name: turn[name] for name in ("name", "tool_call_id") if isinstance(turn.get(name), str)}
    return json.dumps(said, ensure_ascii=False) if said else ""


def with_tools(content: Content, row: Columns) -> Content:
    """The content with the row's `tools` in the first turn of each conversation; as it is when there are none, or for plain text.

    Raises:
        Unfit: `tools` is not a list of function descriptions, or the JSON text of one.
    """
    if "tools" not in row or isinstance(content, Document):
        return content
    tools = row["tools"]
    if isinstance(tools, str):
        tools = _parsed(tools) if tools.strip() else []
    if not isinstance(tools, list | tuple) or not all(isinstance(tool, dict) and ("function" in tool or "name" in tool) for tool in tools):
        raise InvalidRow("`tools` is not a list of functions: each needs a `function` or a `name`")
    return _with(content, [_without_nulls(tool) for tool in tools]) if tools else content


def _with(content: Content, tools: list[object]) -> Content:
    match content:
        case Question(turns) | PairRow(turns) | LabelledCompletion(turns):
            return replace(content, prompt=_opened(turns, tools))
        case Dialogue(turns):
            return replace(content, conversation=_opened(turns, tools))
        case RatedGroups(groups, alone):
            return RatedGroups(*(tuple(replace(one, prompt=_opened(one.prompt, tools)) for one in each) for each in (groups, alone)))
        case Document():
            return content


def _opened(turns: Conversation, tools: list[object]) -> Conversation:
    first = turns[0]
    if first.role == "text":
        return turns
    said = json.loads(first.tool_fields) if first.tool_fields else {}
    return (Message(first.role, first.text, json.dumps({**said, "tools": tools}, ensure_ascii=False)), *turns[1:])


def _calls(value: object, where: str) -> list[object]:
    calls = _parsed(value) if isinstance(value, str) else value
    if not isinstance(calls, list | tuple) or not all(isinstance(call, dict) for call in calls):
        raise InvalidRow(f"`tool_calls` is not a list of calls: {where}")
    return [_call(cast("dict[str, object]", _without_nulls(call)), where) for call in calls]


def _call(call: dict[str, object], where: str) -> dict[str, object]:
    """The call with its arguments as a mapping: APIs give them as JSON text, which templates would write as a text in quotes."""
    inner = call.get("function", call)
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        raise InvalidRow(f"a call without the name of its function: {where}")
    if isinstance(inner.get("arguments"), str):
        arguments = _parsed(inner["arguments"])
        if not isinstance(arguments, dict):
            raise InvalidRow(f"the arguments of a call are not a JSON object: {where}")
        inner = {**inner, "arguments": arguments}
    return {**call, "function": inner} if "function" in call else inner


def _parsed(value: str) -> object:
    try:
        return json.loads(value)
    except ValueError:
        return None


def _without_nulls(value: object) -> object:
    """The value without null entries of mappings: in Parquet every call has the arguments of all, null where it gives none."""
    if isinstance(value, dict):
        return {key: _without_nulls(one) for key, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list | tuple) else value

"""Trees of messages with ranked replies, as OpenAssistant exports them: a whole tree per row, or one message per row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from palate.core import Conversation, Message, Role
from palate.data.cells import Columns, InvalidRow, filled, number, truth
from palate.data.containers import SourceRow
from palate.data.formats.row_types import MEAN, RatedCompletion, RatedCompletions, RatedGroups, RowKind

_ROLES: Mapping[str, Role] = {"prompter": "user", "assistant": "assistant"}


@dataclass(frozen=True)
class OASSTFormat:
    """Rows with a whole tree. Two or more ranked replies of the assistant to one message make pairs."""

    name: str = "message-tree"
    kind: RowKind = "preferences"
    needs: str = "`prompt` (a message of {text, role, replies}, replies with `rank`)"
    columns: frozenset[str] = frozenset({"prompt", "message_tree_id", "tree_state"})

    def fits(self, row: Columns) -> bool:
        """Whether `prompt` is a message with replies."""
        prompt = row.get("prompt")
        return isinstance(prompt, dict) and "replies" in prompt

    def parse(self, row: Columns) -> RatedGroups:
        """Each message of the user with its ranked replies (0 is the best), or its only reply. Deleted and rejected ones are left out."""
        first = cast("Mapping[str, object]", row["prompt"])
        if not _is_kept(first):
            raise InvalidRow("the first message is deleted or was rejected")
        answered = tuple(_answered((), first))
        if not answered:
            raise InvalidRow("no ranked replies")
        groups = tuple(group for group in answered if len(group.answers) > 1)
        return RatedGroups(groups, tuple(group for group in answered if len(group.answers) == 1))


def with_trees(rows: Iterable[SourceRow]) -> Iterator[SourceRow]:
    """The rows, with rows of single messages gathered into trees.

    Trees come after all other rows, in the order of their first messages. Messages may be in any order, so they stay in memory until
    the file ends. A message that no first message leads to gets a fault.
    """
    messages: dict[object, tuple[SourceRow, dict[str, Any]]] = {}
    for entry in rows:
        if not _is_message(entry.row):
            yield entry
        elif entry.row["message_id"] in messages:
            yield SourceRow(entry.source, entry.place, entry.row, "a message that stands in the file twice")
        else:
            messages[entry.row["message_id"]] = entry, {**entry.row, "replies": []}
    roots = []
    for entry, message in messages.values():
        parent = message.get("parent_id")
        if parent is None:
            roots.append((entry, message))
        elif parent in messages:
            messages[parent][1]["replies"].append(message)
    reached: set[object] = set()
    for entry, message in roots:
        reached |= _ids(message)
        columns: dict[str, object] = {name: message[name] for name in ("message_tree_id", "tree_state", "lang") if name in message}
        yield SourceRow(entry.source, entry.place, {"prompt": message, **columns})
    for message_id, (entry, _) in messages.items():
        if message_id not in reached:
            yield SourceRow(entry.source, entry.place, entry.row, "a message whose thread does not begin in the file")


def _is_message(row: Mapping[str, object]) -> bool:
    return isinstance(row.get("message_id"), str) and row.get("role") in _ROLES and "text" in row and "replies" not in row


def _is_kept(message: Mapping[str, object]) -> bool:
    return truth(message.get("deleted")) is not True and truth(message.get("review_result")) is not False


def _ids(message: Mapping[str, Any]) -> set[object]:
    ids, waiting = set(), [message]
    while waiting:
        node = waiting.pop()
        ids.add(node["message_id"])
        waiting.extend(node["replies"])
    return ids


def _answered(before: Conversation, message: Mapping[str, object]) -> Iterator[RatedCompletions]:
    """The user's messages in the tree of `message` that have replies, each with the replies that can be used."""
    role = message.get("role")
    if role not in _ROLES:
        raise InvalidRow(f"unknown role: {role!r}; use one of {', '.join(_ROLES)}")
    turns = (*before, Message(_ROLES[cast("str", role)], filled(message.get("text"), "text")))
    replies = [reply for reply in _replies(message) if _is_kept(reply)]
    by_assistant = [reply for reply in replies if reply.get("role") == "assistant"]
    ranked = [reply for reply in by_assistant if reply.get("rank") is not None] or by_assistant[:1] * (len(by_assistant) == 1)
    if turns[-1].role == "user" and ranked:
        answers = (RatedCompletion(filled(reply.get("text"), "text"), {MEAN: -number(reply.get("rank") or 0, "rank")}) for reply in ranked)
        yield RatedCompletions(turns, tuple(answers), is_scaled=False)
    for reply in replies:
        yield from _answered(turns, reply)


def _replies(message: Mapping[str, object]) -> list[Mapping[str, object]]:
    replies = message.get("replies") or []
    if not isinstance(replies, list) or not all(isinstance(reply, dict) for reply in replies):
        raise InvalidRow("`replies` is not a list of messages")
    return cast("list[Mapping[str, object]]", replies)

"""Trees of messages with ranked replies, as OpenAssistant exports them: whole in a row, or one message a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from palate.core import Conversation, Message, Role
from palate.data.cells import filled
from palate.data.containers import Found
from palate.data.formats.row_types import MEAN, Columns, InvalidRow, RatedCompletion, RatedCompletions, RatedGroups

_ROLES: Mapping[str, Role] = {"prompter": "user", "assistant": "assistant"}


@dataclass(frozen=True)
class OASSTFormat:
    """Rows with a whole tree; wherever two or more ranked replies of the assistant answer a message, they make pairs."""

    name: str = "message-tree"
    needs: str = "`prompt` (a message of {text, role, replies}, replies with `rank`)"
    columns: frozenset[str] = frozenset({"prompt", "message_tree_id", "tree_state"})

    def fits(self, row: Columns) -> bool:
        """Whether `prompt` is a message with replies."""
        prompt = row.get("prompt")
        return isinstance(prompt, dict) and "replies" in prompt

    def parse(self, row: Columns) -> RatedGroups:
        """Each message of the user with its replies: ranked ones (0 is the best), or one alone. Deleted and rejected ones are left out."""
        first = cast("Mapping[str, object]", row["prompt"])
        if not _is_kept(first):
            raise InvalidRow("the first message is deleted or was rejected")
        answered = tuple(_answered((), first))
        if not answered:
            raise InvalidRow("no ranked replies")
        groups = tuple(group for group in answered if len(group.answers) > 1)
        return RatedGroups(groups, tuple(group for group in answered if len(group.answers) == 1))


def grown(rows: Iterable[Found]) -> Iterator[Found]:
    """The rows, those of one message each gathered into trees: behind all others, in the order of their first messages.

    They may stand in any order, so all of them are kept until the last one is read. Messages that no first message leads to have a fault.
    """
    messages: dict[object, tuple[Found, dict[str, Any]]] = {}
    for found in rows:
        if not _is_message(found.row):
            yield found
        elif found.row["message_id"] in messages:
            yield Found(found.source, found.place, found.row, "a message that stands in the file twice")
        else:
            messages[found.row["message_id"]] = found, {**found.row, "replies": []}
    roots = []
    for found, message in messages.values():
        parent = message.get("parent_id")
        if parent is None:
            roots.append((found, message))
        elif parent in messages:
            messages[parent][1]["replies"].append(message)
    reached: set[object] = set()
    for found, message in roots:
        reached |= _ids(message)
        row: dict[str, object] = {name: message[name] for name in ("message_tree_id", "tree_state", "lang") if name in message}
        yield Found(found.source, found.place, {"prompt": message, **row})
    for name, (found, _) in messages.items():
        if name not in reached:
            yield Found(found.source, found.place, found.row, "a message whose thread does not begin in the file")


def _is_message(row: Mapping[str, object]) -> bool:
    return isinstance(row.get("message_id"), str) and row.get("role") in _ROLES and "text" in row and "replies" not in row


def _is_kept(message: Mapping[str, object]) -> bool:
    return not message.get("deleted") and message.get("review_result") is not False


def _ids(message: Mapping[str, Any]) -> set[object]:
    found, waiting = set(), [message]
    while waiting:
        one = waiting.pop()
        found.add(one["message_id"])
        waiting.extend(one["replies"])
    return found


def _answered(before: Conversation, message: Mapping[str, object]) -> Iterator[RatedCompletions]:
    """The messages of the user under `message` (and itself) that have replies, each with those that can be used."""
    role = message.get("role")
    if role not in _ROLES:
        raise InvalidRow(f"unknown role: {role!r}, read are {', '.join(_ROLES)}")
    turns = (*before, Message(_ROLES[cast("str", role)], filled(message.get("text"), "text")))
    replies = [reply for reply in _replies(message) if _is_kept(reply)]
    spoken = [reply for reply in replies if reply.get("role") == "assistant"]
    ranked = [reply for reply in spoken if isinstance(reply.get("rank"), int)] or spoken[:1] * (len(spoken) == 1)
    if turns[-1].role == "user" and ranked:
        answers = (
            RatedCompletion(filled(reply.get("text"), "text"), {MEAN: -float(cast("int", reply.get("rank") or 0))}) for reply in ranked
        )
        yield RatedCompletions(turns, tuple(answers), is_scaled=False)
    for reply in replies:
        yield from _answered(turns, reply)


def _replies(message: Mapping[str, object]) -> list[Mapping[str, object]]:
    replies = message.get("replies") or []
    if not isinstance(replies, list) or not all(isinstance(reply, dict) for reply in replies):
        raise InvalidRow("`replies` is not a list of messages")
    return cast("list[Mapping[str, object]]", replies)

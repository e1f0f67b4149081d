"""Trees of messages with ranked replies, as OpenAssistant exports them: `prompt` with `text`, `role` and `replies`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from palate.core import Conversation, Message, Role
from palate.stores.formats.cells import filled
from palate.stores.formats.content import MEAN, Answer, Answers, Columns, Rated, Unfit

_ROLES: Mapping[str, Role] = {"prompter": "user", "assistant": "assistant"}


@dataclass(frozen=True)
class TreeShape:
    """Rows with a whole tree; wherever two or more ranked replies of the assistant answer a message, they make pairs."""

    name: str = "message-tree"
    needs: str = "`prompt` (a message of {text, role, replies}, replies with `rank`)"
    columns: frozenset[str] = frozenset({"prompt", "message_tree_id", "tree_state"})

    def fits(self, row: Columns) -> bool:
        """Whether `prompt` is a message with replies."""
        prompt = row.get("prompt")
        return isinstance(prompt, dict) and "replies" in prompt

    def parse(self, row: Columns) -> Rated:
        """Each message of the user whose replies are ranked (0 is the best), with those replies; deleted ones are left out."""
        groups = tuple(_groups((), cast("Mapping[str, object]", row["prompt"])))
        if not groups:
            raise Unfit("no ranked replies")
        return Rated(groups)


def _groups(before: Conversation, message: Mapping[str, object]) -> Iterator[Answers]:
    role = message.get("role")
    if role not in _ROLES:
        raise Unfit(f"unknown role: {role!r}, read are {', '.join(_ROLES)}")
    turns = (*before, Message(_ROLES[cast("str", role)], filled(message.get("text"), "text")))
    replies = [reply for reply in _replies(message) if not reply.get("deleted")]
    ranked = [reply for reply in replies if isinstance(reply.get("rank"), int) and reply.get("role") == "assistant"]
    if turns[-1].role == "user" and len(ranked) > 1:
        answers = (Answer(filled(reply.get("text"), "text"), {MEAN: -float(cast("int", reply["rank"]))}) for reply in ranked)
        yield Answers(turns, tuple(answers), is_scaled=False)
    for reply in replies:
        yield from _groups(turns, reply)


def _replies(message: Mapping[str, object]) -> list[Mapping[str, object]]:
    replies = message.get("replies") or []
    if not isinstance(replies, list) or not all(isinstance(reply, dict) for reply in replies):
        raise Unfit("`replies` is not a list of messages")
    return cast("list[Mapping[str, object]]", replies)

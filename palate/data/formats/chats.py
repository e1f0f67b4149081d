"""Whole conversations: `messages` of {role, content}, or ShareGPT's `conversations` of {from, value}."""

from __future__ import annotations

from dataclasses import dataclass

from palate.core import Conversation
from palate.data.cells import CONTEXT_ROLES, conversation
from palate.data.formats.row_types import Columns, Dialogue, InvalidRow


@dataclass(frozen=True)
class ChatFormat:
    """Rows with a conversation; every assistant turn that answers something is learned, or those in `learned`."""

    name: str = "messages"
    needs: str = "`messages` (a list of {role, content}) or `conversations` (a list of {from, value})"
    columns: frozenset[str] = frozenset({"messages", "conversations", "learned"})

    def fits(self, row: Columns) -> bool:
        """Whether there is a conversation."""
        return "messages" in row or "conversations" in row

    def parse(self, row: Columns) -> Dialogue:
        """The conversation; its prompt reaches up to the last assistant turn, or is all of it when that is not the last turn."""
        name = "messages" if "messages" in row else "conversations"
        turns = conversation(row[name], name)
        answers = answering_turns(turns)
        is_answered = turns[-1].role == "assistant"
        if is_answered and not answers:
            raise InvalidRow("no turn before the assistant turn")
        return Dialogue(turns, _learned(row, answers), answers[-1] if is_answered else len(turns))


def answering_turns(turns: Conversation, start: int = 0) -> tuple[int, ...]:
    """Indices from `start` of assistant turns with a turn before them that they can answer."""
    return tuple(i for i in range(start, len(turns)) if turns[i].role == "assistant" and any(t.role in CONTEXT_ROLES for t in turns[:i]))


def _learned(row: Columns, answers: tuple[int, ...]) -> tuple[int, ...]:
    if "learned" not in row:
        return answers
    wanted = row["learned"]
    if not isinstance(wanted, list | tuple) or not wanted or not all(turn in answers for turn in wanted):
        raise InvalidRow(f"`learned` is not a list of assistant turns: {wanted}, there are {list(answers)}")
    return tuple(turn for turn in answers if turn in wanted)

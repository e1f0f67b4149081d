"""Whole conversations: `messages` of {role, content}, or ShareGPT's `conversations` of {from, value}."""

from __future__ import annotations

from dataclasses import dataclass

from palate.core import Conversation
from palate.data.cells import Columns, InvalidRow, sequence
from palate.data.conversations import CONTEXT_ROLES, conversation, unweighted
from palate.data.formats.row_types import Dialogue, RowKind


@dataclass(frozen=True)
class ChatFormat:
    """Rows with a conversation. The model learns the assistant turns in `learned`, by default all that answer something.

    A turn whose own weight is 0 is read and not learned.
    """

    name: str = "messages"
    kind: RowKind = "demonstrations"
    needs: str = "`messages` (a list of {role, content}) or `conversations` (a list of {from, value})"
    columns: frozenset[str] = frozenset({"messages", "conversations", "learned"})

    def fits(self, row: Columns) -> bool:
        """Whether there is a conversation."""
        return "messages" in row or "conversations" in row

    def parse(self, row: Columns) -> Dialogue:
        """The conversation. Its prompt is all before the last assistant turn, or the whole if another turn comes last."""
        name = "messages" if "messages" in row else "conversations"
        turns = conversation(row[name], name)
        answers = answering_turns(turns)
        is_answered = turns[-1].role == "assistant"
        if is_answered and not answers:
            raise InvalidRow("no turn before the assistant turn")
        without_weight = unweighted(row[name], turns, name)
        learned = tuple(turn for turn in _learned(row, answers) if turn not in without_weight)
        return Dialogue(turns, learned, answers[-1] if is_answered else len(turns))


def answering_turns(turns: Conversation, start: int = 0) -> tuple[int, ...]:
    """Numbers, from `start`, of the assistant turns that have a turn before them to answer."""
    return tuple(i for i in range(start, len(turns)) if turns[i].role == "assistant" and any(t.role in CONTEXT_ROLES for t in turns[:i]))


def _learned(row: Columns, answers: tuple[int, ...]) -> tuple[int, ...]:
    if "learned" not in row:
        return answers
    wanted = sequence(row["learned"], "learned")
    if not wanted or not all(turn in answers for turn in wanted):
        raise InvalidRow(f"`learned` is not a list of assistant turns: {wanted}; the assistant turns are {list(answers)}")
    return tuple(turn for turn in answers if turn in wanted)

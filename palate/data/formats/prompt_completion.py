"""Demonstrations as `prompt` and `completion`: both strings (plain text), or lists of messages."""

from __future__ import annotations

from dataclasses import dataclass

from palate.core import Message
from palate.data.cells import Columns, InvalidRow, present, text
from palate.data.conversations import conversation, prompt_of, unweighted
from palate.data.formats.chats import answering_turns
from palate.data.formats.row_types import Dialogue, RowKind


@dataclass(frozen=True)
class PromptCompletionFormat:
    """Rows with a prompt and its answer."""

    name: str = "prompt-completion"
    kind: RowKind = "demonstrations"
    needs: str = "`prompt` and `completion` (both strings, or both lists of messages)"
    columns: frozenset[str] = frozenset({"prompt", "completion"})

    def fits(self, row: Columns) -> bool:
        """Whether there is a `completion`."""
        return "completion" in row

    def parse(self, row: Columns) -> Dialogue:
        """Prompt and completion as one conversation. The model learns the completion's assistant turns."""
        prompt = prompt_of(present(row, "prompt"))
        completion = row["completion"]
        if isinstance(completion, str):
            answer = text(completion, "completion")
            if not answer.strip():
                raise InvalidRow("empty completion")
            if prompt[0].role == "text":
                return Dialogue((*prompt, Message("text", answer)), (len(prompt),), len(prompt))
            # A transcript's completion follows "Assistant:", so it begins with a space that is not part of the turn.
            turn = Message("assistant", answer.strip() if isinstance(row["prompt"], str) else answer)
            return Dialogue((*prompt, turn), (len(prompt),), len(prompt))
        if isinstance(row["prompt"], str) and prompt[0].role == "text":
            prompt = (Message("user", prompt[0].text),)
        answered = conversation(completion, "completion")
        turns = (*prompt, *answered)
        learned = answering_turns(turns, start=len(prompt))
        if not learned:
            raise InvalidRow("no assistant turn to learn from")
        without_weight = unweighted(completion, answered, "completion")
        return Dialogue(turns, tuple(turn for turn in learned if turn - len(prompt) not in without_weight), len(prompt))

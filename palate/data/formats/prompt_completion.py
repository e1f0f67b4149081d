"""Demonstrations as `prompt` and `completion`: both strings (plain text), or lists of messages."""

from __future__ import annotations

from dataclasses import dataclass

from palate.core import Message
from palate.data.cells import column, conversation, text
from palate.data.formats.chats import answering_turns
from palate.data.formats.prompt_only import prompt_of
from palate.data.formats.row_types import Columns, Dialogue, InvalidRow


@dataclass(frozen=True)
class PromptCompletionFormat:
    """Rows with a prompt and what to answer."""

    name: str = "prompt-completion"
    needs: str = "`prompt` and `completion` (both strings, or both lists of messages)"
    columns: frozenset[str] = frozenset({"prompt", "completion"})

    def fits(self, row: Columns) -> bool:
        """Whether there is a `completion`."""
        return "completion" in row

    def parse(self, row: Columns) -> Dialogue:
        """Prompt and completion as one conversation; the completion's assistant turns are learned."""
        prompt = prompt_of(column(row, "prompt"))
        answer = row["completion"]
        if isinstance(answer, str):
            said = text(answer, "completion")
            if not said.strip():
                raise InvalidRow("empty completion")
            if prompt[0].role == "text":
                return Dialogue((*prompt, Message("text", said)), (len(prompt),), len(prompt))
            # A transcript's completion follows "Assistant:", so a blank comes first that is not part of the turn.
            turn = Message("assistant", said.strip() if isinstance(row["prompt"], str) else said)
            return Dialogue((*prompt, turn), (len(prompt),), len(prompt))
        if isinstance(row["prompt"], str) and prompt[0].role == "text":
            prompt = (Message("user", prompt[0].text),)
        turns = (*prompt, *conversation(answer, "completion"))
        learned = answering_turns(turns, start=len(prompt))
        if not learned:
            raise InvalidRow("no assistant turn to learn from")
        return Dialogue(turns, learned, len(prompt))

"""Prompts alone: `prompt` as a string (plain text), a list of messages, or a transcript that waits for the assistant."""

from __future__ import annotations

from dataclasses import dataclass

from palate.core import Conversation, Message
from palate.data.cells import CONTEXT_ROLES, conversation, filled
from palate.data.formats.row_types import Columns, InvalidRow, Question
from palate.data.formats.transcripts import is_transcript, prompt_of_transcript


@dataclass(frozen=True)
class PromptOnlyFormat:
    """Rows with a prompt and no completion."""

    name: str = "prompt-only"
    needs: str = "`prompt` (a string or a list of messages)"
    columns: frozenset[str] = frozenset({"prompt"})

    def fits(self, row: Columns) -> bool:
        """Whether there is a `prompt`."""
        return "prompt" in row

    def parse(self, row: Columns) -> Question:
        """The prompt."""
        return Question(prompt_of(row["prompt"]))


def prompt_of(value: object) -> Conversation:
    """The conversation in a `prompt` column. Raises Unfit when it is empty or already ends with an assistant turn."""
    if isinstance(value, str):
        plain = filled(value, "prompt")
        return prompt_of_transcript(plain) if is_transcript(plain) else (Message("text", plain),)
    turns = conversation(value, "prompt")
    if turns[-1].role not in CONTEXT_ROLES:
        raise InvalidRow(f"the prompt does not end with a turn to answer: its last turn is {turns[-1].role}")
    return turns

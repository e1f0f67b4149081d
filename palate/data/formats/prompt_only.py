"""Prompts alone: `prompt` as a string (plain text), a list of messages, or a transcript that waits for the assistant."""

from __future__ import annotations

from dataclasses import dataclass

from palate.data.cells import Columns
from palate.data.conversations import prompt_of
from palate.data.formats.row_types import Question, RowKind


@dataclass(frozen=True)
class PromptOnlyFormat:
    """Rows with a prompt and no completion."""

    name: str = "prompt-only"
    kind: RowKind = "prompts"
    needs: str = "`prompt` (a string or a list of messages)"
    columns: frozenset[str] = frozenset({"prompt"})

    def fits(self, row: Columns) -> bool:
        """Whether there is a `prompt`."""
        return "prompt" in row

    def parse(self, row: Columns) -> Question:
        """The prompt."""
        return Question(prompt_of(row["prompt"]))

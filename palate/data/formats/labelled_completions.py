"""Unpaired preferences: `prompt`, `completion`, and a `label` that is true or false (KTO)."""

from __future__ import annotations

from dataclasses import dataclass

from palate.core import Message
from palate.data.cells import Columns, InvalidRow, present, text
from palate.data.conversations import conversation, prompt_of
from palate.data.formats.preferences import one_answer
from palate.data.formats.row_types import LabelledCompletion, RowKind


@dataclass(frozen=True)
class LabelledCompletionFormat:
    """Rows with a prompt, a completion, and whether it is wanted."""

    name: str = "unpaired"
    kind: RowKind = "unpaired"
    needs: str = "`prompt`, `completion` and `label` (true or false)"
    columns: frozenset[str] = frozenset({"prompt", "completion", "label", "weight"})

    def fits(self, row: Columns) -> bool:
        """Whether there are a `completion` and a `label` of true or false. Another label is a field of a demonstration."""
        return "completion" in row and isinstance(row.get("label"), bool)

    def parse(self, row: Columns) -> LabelledCompletion:
        """Prompt, completion and whether it is wanted."""
        prompt, completion = prompt_of(present(row, "prompt")), row["completion"]
        if isinstance(completion, str):
            answer = text(completion, "completion")
            if not answer.strip():
                raise InvalidRow("empty completion")
            is_transcript = isinstance(row["prompt"], str) and prompt[0].role != "text"
            return LabelledCompletion(prompt, answer.strip() if is_transcript else answer, row["label"] is True)
        if prompt[0].role == "text":
            prompt = (Message("user", prompt[0].text),)
        turn = one_answer(prompt, conversation(completion, "completion"))
        return LabelledCompletion(prompt, turn.text, row["label"] is True, turn.tool_fields)

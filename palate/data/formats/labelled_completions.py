"""Unpaired preferences: `prompt`, `completion`, and a `label` that is true or false (KTO)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from palate.core import Message
from palate.data.cells import Columns, InvalidRow, boolean, present, quoted, text, truth
from palate.data.conversations import conversation, prompt_of
from palate.data.formats.preferences import one_answer
from palate.data.formats.row_types import LabelledCompletion, RowKind

_REMEDY = 'If the column does not say whether the completion is wanted, set columns.label to ""'
_UNSEEN = object()


@dataclass(frozen=True)
class LabelledCompletionFormat:
    """Rows with a prompt, a completion, and whether it is wanted."""

    name: str = "unpaired"
    kind: RowKind = "unpaired"
    needs: str = "`prompt`, `completion` and `label` (true or false)"
    columns: frozenset[str] = frozenset({"prompt", "completion", "label", "weight"})

    def fits(self, row: Columns) -> bool:
        """Whether there are a `completion` and a `label` of true or false, also as 1 and 0 (see `LabelColumn`)."""
        return "completion" in row and truth(row.get("label")) is not None

    def parse(self, row: Columns) -> LabelledCompletion:
        """Prompt, completion and whether it is wanted."""
        prompt, completion = prompt_of(present(row, "prompt")), row["completion"]
        if isinstance(completion, str):
            answer = text(completion, "completion")
            if not answer.strip():
                raise InvalidRow("empty completion")
            is_transcript = isinstance(row["prompt"], str) and prompt[0].role != "text"
            return LabelledCompletion(prompt, answer.strip() if is_transcript else answer, boolean(row["label"], "label"))
        if prompt[0].role == "text":
            prompt = (Message("user", prompt[0].text),)
        turn = one_answer(prompt, conversation(completion, "completion"))
        return LabelledCompletion(prompt, turn.text, boolean(row["label"], "label"), turn.tool_fields)


class LabelColumn:
    """What the column `label` of a file says as a whole.

    1 and 0 are true and false if the column holds nothing else. Beside other values they are classes, and nobody knows which one is good.
    """

    def __init__(self, values: Callable[[], Iterable[object]]) -> None:
        """`values` returns the values of the column from the beginning of the file; it is called once, at the first label like 1."""
        self._values = values
        self._other: object = _UNSEEN

    def check(self, row: Columns) -> None:
        """Check that the row's label is true or false, or missing. Raises InvalidRow for another one, whose completion may be a bad one."""
        label = row.get("label")
        if label is None or isinstance(label, bool) or "completion" not in row:
            return
        if truth(label) is None:
            raise InvalidRow(f"`label` is not true or false: {quoted(label)}. {_REMEDY}")
        if self._other is _UNSEEN:
            self._other = next((value for value in self._values() if value is not None and truth(value) is None), None)
        if self._other is not None:
            raise InvalidRow(f"`label` is not true or false: it is {quoted(label)} here and {quoted(self._other)} elsewhere. {_REMEDY}")

"""One prompt with right and wrong completions, as in RewardBench 2: `chosen` and `rejected` are lists of texts."""

from __future__ import annotations

from dataclasses import dataclass

from palate.core import Conversation, Message
from palate.data.cells import Columns, InvalidRow, filled, sequence
from palate.data.conversations import prompt_of
from palate.data.formats.row_types import MEAN, RatedCompletion, RatedCompletions, RatedGroups, RowKind


@dataclass(frozen=True)
class BestOfFormat:
    """Rows with a prompt, one or more right completions and one or more wrong ones. Each right one makes a pair with each wrong one."""

    name: str = "best of K"
    kind: RowKind = "preferences"
    needs: str = "`prompt`, and `chosen` and `rejected` as lists of texts"
    columns: frozenset[str] = frozenset({"prompt", "chosen", "rejected", "num_correct", "num_incorrect", "total_completions"})

    def fits(self, row: Columns) -> bool:
        """Whether both sides are lists of texts."""
        sides = [row.get(side) for side in ("chosen", "rejected")]
        return "prompt" in row and all(map(_are_texts, sides)) and any(sides)

    def parse(self, row: Columns) -> RatedGroups:
        """The completions, the right ones first, rated 1 and 0. A string as `prompt` is the user's turn.

        Raises:
            InvalidRow: a side has no completion, a completion is empty, or `num_correct` is not the number of the right ones.
        """
        sides = {side: [filled(one, side) for one in sequence(row[side], side)] for side in ("chosen", "rejected")}
        if absent := [side for side, texts in sides.items() if not texts]:
            raise InvalidRow(f"no completion in `{absent[0]}`: a row needs a right and a wrong one")
        if row.get("num_correct") not in (None, len(sides["chosen"])):
            raise InvalidRow(f"`num_correct` does not fit `chosen`: it is {row['num_correct']} for {len(sides['chosen'])} texts")
        rated = (RatedCompletion(one, {MEAN: float(side == "chosen")}) for side, texts in sides.items() for one in texts)
        return RatedGroups((RatedCompletions(asked(prompt_of(row["prompt"])), tuple(rated), is_scaled=False),))


def asked(prompt: Conversation) -> Conversation:
    """The prompt as a conversation: plain text becomes the user's turn."""
    return tuple(Message("user", turn.text) if turn.role == "text" else turn for turn in prompt)


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)

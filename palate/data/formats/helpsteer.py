"""One rated response per row, as in HelpSteer: `prompt`, `response`, and ratings from helpfulness to verbosity."""

from __future__ import annotations

import re
from dataclasses import dataclass

from palate.core import Conversation, Message
from palate.data.cells import Columns, filled, number
from palate.data.conversations import check_is_unanswered
from palate.data.formats.row_types import MEAN, RatedCompletion, RatedCompletions, RatedGroups, RowKind

DIMENSIONS = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
GOOD = DIMENSIONS[:3]
"""Dimensions whose mean says how good a response is. The other two say how it is written."""

_TURN = re.compile(r"\r?\n?<extra_id_1>(User|Assistant)\r?\n")


@dataclass(frozen=True)
class HelpSteerFormat:
    """Rows with a prompt, one response and its ratings. Rows of one prompt make pairs."""

    name: str = "rating"
    kind: RowKind = "preferences"
    needs: str = "`prompt`, `response` and one or more of " + ", ".join(f"`{dimension}`" for dimension in DIMENSIONS)
    columns: frozenset[str] = frozenset({"prompt", "response", *DIMENSIONS})

    def fits(self, row: Columns) -> bool:
        """Whether there are a `response` and a rating."""
        return "prompt" in row and "response" in row and any(dimension in row for dimension in DIMENSIONS)

    def parse(self, row: Columns) -> RatedGroups:
        """The response with its ratings. `mean` is the mean of helpfulness, correctness and coherence, or of those that are present."""
        response = filled(row["response"], "response")
        ratings = {dimension: number(row[dimension], dimension) for dimension in DIMENSIONS if dimension in row}
        good = [ratings[dimension] for dimension in GOOD if dimension in ratings]
        if good:
            ratings[MEAN] = sum(good) / len(good)
        return RatedGroups((RatedCompletions(_turns(filled(row["prompt"], "prompt")), (RatedCompletion(response, ratings),)),))


def _turns(prompt: str) -> Conversation:
    """The user's turn. In HelpSteer2, markers separate it from earlier turns."""
    first, *rest = _TURN.split(prompt)
    later = (Message("user" if role == "User" else "assistant", words) for role, words in zip(rest[::2], rest[1::2], strict=True))
    turns = (Message("user", first), *later)
    check_is_unanswered(turns)
    return turns

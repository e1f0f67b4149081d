"""One rated response a row, as in HelpSteer: `prompt`, `response`, and ratings from helpfulness to verbosity."""

from __future__ import annotations

import re
from dataclasses import dataclass

from palate.core import Conversation, Message
from palate.data.cells import CONTEXT_ROLES, filled, number
from palate.data.formats.content import MEAN, Answer, Answers, Columns, Rated, Unfit

AXES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
GOOD = AXES[:3]
"""Axes whose mean says how good a response is; the other two say how it is written."""

_TURN = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")


@dataclass(frozen=True)
class RatingShape:
    """Rows with a prompt, one response and ratings of it; rows of one prompt make pairs."""

    name: str = "rating"
    needs: str = "`prompt`, `response` and one or more of " + ", ".join(f"`{axis}`" for axis in AXES)
    columns: frozenset[str] = frozenset({"prompt", "response", *AXES})

    def fits(self, row: Columns) -> bool:
        """Whether there are a `response` and a rating."""
        return "prompt" in row and "response" in row and any(axis in row for axis in AXES)

    def parse(self, row: Columns) -> Rated:
        """The response with its ratings; `mean` is that of helpfulness, correctness and coherence, as far as they are there."""
        response = filled(row["response"], "response")
        ratings = {axis: number(row, axis, 0.0) for axis in AXES if axis in row}
        good = [ratings[axis] for axis in GOOD if axis in ratings]
        if good:
            ratings[MEAN] = sum(good) / len(good)
        return Rated((Answers(_turns(filled(row["prompt"], "prompt")), (Answer(response, ratings),)),))


def _turns(prompt: str) -> Conversation:
    """The user's turn; in HelpSteer2 markers part earlier turns."""
    first, *rest = _TURN.split(prompt)
    later = (Message("user" if role == "User" else "assistant", said) for role, said in zip(rest[::2], rest[1::2], strict=True))
    turns = (Message("user", first), *later)
    if turns[-1].role not in CONTEXT_ROLES:
        raise Unfit(f"the prompt does not end with a turn to answer: its last turn is {turns[-1].role}")
    return turns

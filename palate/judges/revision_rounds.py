"""What a round of critique and revision leaves: the record of each round, and the words for what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Outcome = Literal[
    "revised", "unchanged", "no complaint", "critique cut", "critique empty", "revision cut", "revision empty", "request refused"
]
"""What a round did to a text. "request refused" is a request that is too long for the model, or that its chat template refuses."""

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
SETTLED = frozenset({"revised", "unchanged", "no complaint"})
"""The outcomes of a round in which the model said all that it was asked for. After every other one nobody endorsed the text."""


@dataclass(frozen=True, slots=True)
class RevisionRound:
    """One round of a draft.

    Attributes:
        principle: id of the principle that was drawn.
        dimension: its dimension.
        critique: what the model criticised; "" where it was not asked to.
        revision: what it wrote in place of the text; "" where it was not asked to.
        text: the text after the round.
        outcome: what the round did.
        tokens_read: tokens of the requests.
        tokens_written: tokens that the model wrote.
        refusal: why a request was refused; "" where none was.
    """

    principle: str
    dimension: str
    critique: str
    revision: str
    text: str
    outcome: Outcome
    tokens_read: int = 0
    tokens_written: int = 0
    refusal: str = ""

    def row(self) -> dict[str, Any]:
        """Return the round as JSON values."""
        return asdict(self)

    @staticmethod
    def of(row: Mapping[str, Any]) -> RevisionRound:
        """Return the round of a row."""
        return RevisionRound(**row)

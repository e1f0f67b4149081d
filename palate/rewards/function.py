"""A reward from a Python function of the user's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from palate.rewards.common import Constraint, check_shaping, check_timeout
from palate.rewards.worker import Setup

if TYPE_CHECKING:
    from palate.rewards.batch import PartScorer, ScoringContext


@dataclass(frozen=True, kw_only=True)
class FunctionReward:
    """Any Python function, in a process of its own.

    It is called as `f(prompt, completion, **fields)` and returns a number; with `batched` as `f(prompts, completions, **columns)`, all
    of them lists, and returns a list of numbers. Of the fields it gets those it names: the further columns of the prompt's row, `ended`
    (False for a completion that was cut off) and `conversation` (turns with `role` and `content`).

    Attributes:
        function: import path, `package.module:name`.
        batched: whether it takes all completions at once.
        timeout_seconds: seconds for a batch; what has no score by then failed, and the process is killed.
        weight: what its score counts in the sum; 0 only records it.
        normalise: scale by mean and standard deviation of all scores so far.
        floor: the least score; lower ones count as this.
        ceiling: the largest score.
        constraint: a level its mean must stay above, instead of a weight.
    """

    kind: Literal["function"] = "function"
    function: str
    batched: bool = False
    timeout_seconds: float = 60.0
    weight: float = 1.0
    normalise: bool = False
    floor: float | None = None
    ceiling: float | None = None
    constraint: Constraint | None = None

    def __post_init__(self) -> None:
        """Checks the settings."""
        check_timeout(self.kind, self.timeout_seconds)
        check_shaping(self.kind, self)

    def open(self, context: ScoringContext) -> PartScorer:
        """The function's process, started."""
        from palate.rewards.process import FunctionProcess

        return FunctionProcess(context.name, Setup(self.function, self.batched), self.timeout_seconds)

"""A reward from rules: what every completion must or must not contain, and how long it may be."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from palate.core import ConfigError
from palate.rewards.common import Constraint, check_shaping, check_timeout
from palate.rewards.worker import Setup

if TYPE_CHECKING:
    from palate.rewards.batch import PartScorer, ScoringContext


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule, of a pattern or of length, and the points that breaking it brings.

    Attributes:
        points: added to the score of a completion that breaks the rule; below 0 as a rule.
        pattern: a regular expression of Python's that must be found in the completion.
        forbidden: the pattern must not be found instead.
        shortest: fewest words (or characters).
        longest: most words (or characters).
        unit: what length is counted in; words are what blanks separate.
    """

    points: float
    pattern: str | None = None
    forbidden: bool = False
    shortest: int | None = None
    longest: int | None = None
    unit: Literal["words", "characters"] = "words"

    def __post_init__(self) -> None:
        """Checks that the rule says one thing."""
        if not math.isfinite(self.points) or self.points == 0:
            raise ConfigError(f"rule: points must be a finite number other than 0, got {self.points}")
        has_length = self.shortest is not None or self.longest is not None
        if (self.pattern is None) != has_length:
            raise ConfigError("rule: needs a pattern, or a length (shortest, longest or both); make two rules of both")
        if self.forbidden and self.pattern is None:
            raise ConfigError("rule: forbidden says that a pattern must not be found, and there is none")
        try:
            re.compile(self.pattern or "")
        except re.error as error:
            raise ConfigError(f"rule: the pattern {self.pattern!r} is no regular expression: {error}") from error

    def is_broken(self, text: str) -> bool:
        """Whether a completion breaks it."""
        if self.pattern is not None:
            return (re.search(self.pattern, text) is None) != self.forbidden
        length = len(text.split()) if self.unit == "words" else len(text)
        return length < (self.shortest or 0) or (self.longest is not None and length > self.longest)


@dataclass(frozen=True, kw_only=True)
class RulesReward:
    """The points of all broken rules, added up: 0 for a completion that keeps them all.

    Attributes:
        rules: the rules.
        timeout_seconds: seconds for a batch: some regular expressions never end on some texts.
        weight: what its score counts in the sum; 0 only records it.
        normalise: scale by mean and standard deviation of all scores so far.
        floor: the least score; lower ones count as this.
        ceiling: the largest score.
        constraint: a level its mean must stay above, instead of a weight.
    """

    kind: Literal["rules"] = "rules"
    rules: tuple[Rule, ...]
    timeout_seconds: float = 10.0
    weight: float = 1.0
    normalise: bool = False
    floor: float | None = None
    ceiling: float | None = None
    constraint: Constraint | None = None

    def __post_init__(self) -> None:
        """Checks the settings."""
        if not self.rules:
            raise ConfigError("rules: needs a rule or more")
        check_timeout(self.kind, self.timeout_seconds)
        check_shaping(self.kind, self)

    def open(self, context: ScoringContext) -> PartScorer:
        """A process that applies the rules: a regular expression that runs away can only be killed."""
        from palate.rewards.process import FunctionProcess

        return FunctionProcess(
            context.name, Setup(f"{__name__}:points", batched=False, constants={"rules": self.rules}), self.timeout_seconds
        )


def points(_prompt: str, completion: str, *, rules: Sequence[Rule]) -> float:
    """The points of the rules that a completion breaks."""
    return math.fsum(rule.points for rule in rules if rule.is_broken(completion))

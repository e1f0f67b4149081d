"""A part of a reward from rules: what every completion must or must not contain, and how long it may be."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from palate.core import ConfigError
from palate.rewards.part import PartSettings, check_timeout
from palate.rewards.worker import Setup

if TYPE_CHECKING:
    from palate.rewards.batch import PartScorer, ScoringContext


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule about a pattern or about length, and the points for breaking it.

    Attributes:
        points: added to the score of a completion that breaks the rule; usually below 0.
        pattern: a Python regular expression that must be found in the completion.
        forbidden: the pattern must not be found in the completion.
        shortest: fewest words (or characters).
        longest: most words (or characters).
        unit: what length is counted in; words are separated by white space.
    """

    points: float
    pattern: str | None = None
    forbidden: bool = False
    shortest: int | None = None
    longest: int | None = None
    unit: Literal["words", "characters"] = "words"

    def __post_init__(self) -> None:
        """Check that the rule has either a pattern or a length."""
        if not math.isfinite(self.points) or self.points == 0:
            raise ConfigError(f"rule: points must be a finite number other than 0, got {self.points}")
        has_length = self.shortest is not None or self.longest is not None
        if (self.pattern is None) != has_length:
            raise ConfigError("rule: needs either a pattern or a length (shortest, longest or both); write two rules to have both")
        if self.forbidden and self.pattern is None:
            raise ConfigError("rule: forbidden needs a pattern; give one, or leave out forbidden")
        try:
            re.compile(self.pattern or "")
        except re.error as error:
            raise ConfigError(f"rule: the pattern {self.pattern!r} is not a regular expression: {error}") from error

    def is_broken(self, text: str) -> bool:
        """Return whether a completion breaks the rule."""
        if self.pattern is not None:
            return (re.search(self.pattern, text) is None) != self.forbidden
        length = len(text.split()) if self.unit == "words" else len(text)
        return length < (self.shortest or 0) or (self.longest is not None and length > self.longest)


@dataclass(frozen=True, kw_only=True)
class RulesReward(PartSettings):
    """The sum of the points of all broken rules; 0 for a completion that breaks none.

    Attributes:
        rules: the rules.
        timeout_seconds: seconds for a batch, because some regular expressions never end on some texts.
    """

    kind: Literal["rules"] = "rules"
    rules: tuple[Rule, ...]
    timeout_seconds: float = 10.0

    def __post_init__(self) -> None:
        """Check the settings."""
        if not self.rules:
            raise ConfigError("rules: needs at least one rule")
        check_timeout(self.kind, self.timeout_seconds)
        self.check_shaping()

    def open(self, context: ScoringContext) -> PartScorer:
        """Start a process that applies the rules, because a regular expression that never ends can only be killed."""
        # The process imports this file for `points`; without torch it starts at once.
        from palate.rewards.function import FunctionProcess

        return FunctionProcess(
            f"rewards.{context.name}", Setup(f"{__name__}:points", batched=False, constants={"rules": self.rules}), self.timeout_seconds
        )


def points(completion: str, rules: Sequence[Rule]) -> float:
    """Return the sum of the points of the rules that a completion breaks."""
    return math.fsum(rule.points for rule in rules if rule.is_broken(completion))

"""Simulated raters of rules: people who see what a rule's program says, and err at known rates."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from typing import Literal

from palate.config.types import Count, Share
from palate.core import ConfigError


@dataclass(frozen=True)
class RuleRaters:
    """A pool of simulated people who say whether a completion breaks a rule.

    Attributes:
        raters: number of people.
        misses: mean share of broken rules that a rater does not see.
        false_alarms: mean share of kept rules that a rater takes for broken.
        spread: how much raters differ; each rate is multiplied by a factor between 1 - spread and 1 + spread.
        unclear: share of the judgments about a rule that are coin tosses, by the rule's id: how badly it is worded.
    """

    kind: Literal["simulated"] = "simulated"
    raters: Count = 12
    misses: Share = 0.1
    false_alarms: Share = 0.05
    spread: Share = 0.4
    unclear: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the settings."""
        for name, share in self.unclear.items():
            if not 0 <= share <= 1:
                raise ConfigError(f"unclear.{name} is a share, got {share}; give a number from 0 to 1")

    def votes(self, question: str, rule: str, *, is_broken: bool, count: int, seed: int) -> list[tuple[str, bool]]:
        """Return (rater, whether the rule is broken) of `count` raters, drawn for this question; equal arguments give equal votes.

        Args:
            question: names the completion and the rule.
            rule: the rule's id.
            is_broken: the truth.
            count: raters who answer, at most all.
            seed: makes another pool of people.
        """
        rng = random.Random(f"{seed}/{question}")
        chosen = rng.sample(range(self.raters), min(count, self.raters))
        votes = []
        name, mean = ("misses", self.misses) if is_broken else ("false_alarms", self.false_alarms)
        for number in chosen:
            rate = mean * (1 + self.spread * (2 * _trait(seed, number, name) - 1))
            says = is_broken != (rng.random() < rate)
            if rng.random() < self.unclear.get(rule, 0.0):
                says = rng.random() < 0.5
            votes.append((f"simulated-{number}", says))
        return votes


def _trait(seed: int, rater: int, rate: str) -> float:
    digest = hashlib.blake2b(f"{seed}/{rater}/{rate}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64

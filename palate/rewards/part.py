"""What the parts of a reward share: settings that shape their scores. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from palate.core import ConfigError, Prompt
from palate.data.judge_names import UNCALIBRATED


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """A level that a part's mean score must stay above; how much that may cost the other parts is learned.

    With multiplier `m` and shortfall `J = min_score - mean score`, after each batch `m <- m exp(rate m J)`, and the reward is
    `(sum of weighted parts - sum m (min_score - score)) / (1 + sum m)`. Source: Dai et al. 2023 (Safe RLHF), with the cost
    `min_score - score`; the bound on m is not theirs.

    Attributes:
        min_score: the level, in units of the part's score.
        rate: how fast the multiplier moves.
        init_multiplier: the first multiplier; above 0, because from 0 it could never rise.
        max_multiplier: the largest multiplier.
    """

    min_score: float
    rate: float = 0.1
    init_multiplier: float = 1.0
    max_multiplier: float = 10.0

    def __post_init__(self) -> None:
        """Check the settings."""
        if not math.isfinite(self.min_score):
            raise ConfigError(f"constraint: min_score must be a finite number, got {self.min_score}")
        if not 0 < self.rate < math.inf:
            raise ConfigError(f"constraint: rate must be > 0 and finite, got {self.rate}; 0.1 is usual")
        if not 0 < self.init_multiplier <= self.max_multiplier < math.inf:
            raise ConfigError(
                f"constraint: needs 0 < init_multiplier <= max_multiplier, got {self.init_multiplier} and {self.max_multiplier}"
            )

    def next_multiplier(self, multiplier: float, mean: float) -> float:
        """Return the multiplier after a batch with this mean score, which must not be NaN."""
        log = math.log(multiplier) + self.rate * multiplier * (self.min_score - mean)
        return math.exp(max(min(log, math.log(self.max_multiplier)), math.log(MIN_MULTIPLIER)))


MIN_MULTIPLIER = 1e-6
"""Below it a multiplier would need too many batches to rise again."""


@dataclass(frozen=True, kw_only=True)
class PartSettings:
    """The settings that every part of a reward has. A score is normalised first, then bounded, then weighted.

    Attributes:
        weight: what its score counts in the sum; 0 only records it.
        normalise: scale by mean and standard deviation of all scores so far.
        floor: the least score; lower ones count as this.
        ceiling: the largest score; higher ones count as this.
        constraint: a level its mean must stay above, instead of a weight.
    """

    kind: str
    weight: float = 1.0
    normalise: bool = False
    floor: float | None = None
    ceiling: float | None = None
    constraint: Constraint | None = None

    @property
    def counts(self) -> bool:
        """Whether its scores are part of the reward; where not, they are only recorded, and a failure costs nothing."""
        return self.weight != 0 or self.constraint is not None

    @property
    def is_calibrated(self) -> bool:
        """Whether no judge gives its scores, or one whose report card says what they are worth."""
        return True

    @property
    def compares_siblings(self) -> bool:
        """Whether a completion's score depends on the others of its prompt; most parts score each alone."""
        return False

    def check_prompts(self, prompts: Sequence[Prompt], name: str) -> None:
        """Check that the prompts have what the part reads of them; most parts read nothing.

        Args:
            prompts: those whose completions are scored later.
            name: the part's name, for messages.

        Raises:
            DataError: a prompt lacks it.
        """

    def check_shaping(self) -> None:
        """Check these settings.

        Raises:
            ConfigError: the weight or a bound is not finite, the floor is above the ceiling, or a constraint stands beside a weight or a
                normalisation.
        """
        if not math.isfinite(self.weight):
            raise ConfigError(f"{self.kind}: weight must be a finite number, got {self.weight}")
        low, high = self.floor, self.ceiling
        if any(bound is not None and not math.isfinite(bound) for bound in (low, high)):
            raise ConfigError(f"{self.kind}: floor and ceiling must be finite, got {low} and {high}; leave out what does not bound")
        if low is not None and high is not None and not low < high:
            raise ConfigError(f"{self.kind}: floor must be below ceiling, got {low} and {high}")
        if self.constraint is not None and self.normalise:
            raise ConfigError(
                f"{self.kind}: a constraint has no meaning for a normalised score, whose mean is 0; leave out normalise or constraint"
            )
        if self.constraint is not None and self.weight != 1:
            raise ConfigError(f"{self.kind}: a constraint learns the part's weight; leave out weight or constraint")


def caveats_of(parts: Mapping[str, PartSettings]) -> dict[str, list[str]]:
    """Return what a summary says beside figures of a reward: `uncalibrated`, the parts whose judge has no report card; {} without any."""
    names = [name for name, part in parts.items() if not part.is_calibrated]
    return {UNCALIBRATED: names} if names else {}


def check_timeout(kind: str, timeout_seconds: float) -> None:
    """Raise ConfigError unless the timeout is above 0 and finite."""
    if not 0 < timeout_seconds < math.inf:
        raise ConfigError(f"{kind}: timeout_seconds must be above 0 and finite, got {timeout_seconds}")

"""What parts of a reward share: what is done to their scores before they are added up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, SupportsFloat

from palate.core import ConfigError


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """A part's mean score is to stay above a level; what that may cost the others is learned.

    With multiplier `m` and shortfall `J = min_score - mean score`, after each batch `m <- m exp(rate m J)`, and the reward is
    `(sum of weighted parts - sum m (min_score - score)) / (1 + sum m)`. Source: Dai et al. 2023 (Safe RLHF) eq. 14, with the cost
    `min_score - score`; the bound on m is not theirs.

    Attributes:
        min_score: the level, in units of the part's score.
        rate: how fast the multiplier moves.
        init_multiplier: the first multiplier, above 0: from 0 it could never rise.
        max_multiplier: the multiplier at most.
    """

    min_score: float
    rate: float = 0.1
    init_multiplier: float = 1.0
    max_multiplier: float = 10.0

    def __post_init__(self) -> None:
        """Checks the settings."""
        if not math.isfinite(self.min_score):
            raise ConfigError(f"constraint: min_score must be a finite number, got {self.min_score}")
        if not 0 < self.rate < math.inf:
            raise ConfigError(f"constraint: rate must be > 0 and finite, got {self.rate}; 0.1 is usual")
        if not 0 < self.init_multiplier <= self.max_multiplier < math.inf:
            raise ConfigError(
                f"constraint: needs 0 < init_multiplier <= max_multiplier, got {self.init_multiplier} and {self.max_multiplier}"
            )

    def next_multiplier(self, multiplier: float, mean: float) -> float:
        """The multiplier after a batch with this mean score, which must be a number."""
        log = math.log(multiplier) + self.rate * multiplier * (self.min_score - mean)
        return math.exp(max(min(log, math.log(self.max_multiplier)), math.log(LEAST_MULTIPLIER)))


LEAST_MULTIPLIER = 1e-6
"""Below it a multiplier would need too many batches to come back."""


class PartSettings(Protocol):
    """What every part says of its scores: first normalised, then held between floor and ceiling, then weighted."""

    @property
    def weight(self) -> float: ...  # noqa: D102
    @property
    def normalise(self) -> bool: ...  # noqa: D102
    @property
    def floor(self) -> float | None: ...  # noqa: D102
    @property
    def ceiling(self) -> float | None: ...  # noqa: D102
    @property
    def constraint(self) -> Constraint | None: ...  # noqa: D102


def check_shaping(kind: str, part: PartSettings) -> None:
    """Nothing.

    Raises:
        ConfigError: a weight that is no number, a floor above the ceiling, or a constraint beside a weight or a normalisation.
    """
    if not math.isfinite(part.weight):
        raise ConfigError(f"{kind}: weight must be a finite number, got {part.weight}")
    low, high = part.floor, part.ceiling
    if any(bound is not None and not math.isfinite(bound) for bound in (low, high)):
        raise ConfigError(f"{kind}: floor and ceiling must be finite, got {low} and {high}; leave out what does not bound")
    if low is not None and high is not None and not low < high:
        raise ConfigError(f"{kind}: floor must be below ceiling, got {low} and {high}")
    if part.constraint is not None and part.normalise:
        raise ConfigError(f"{kind}: a normalised score has mean 0, so no level means anything for it: leave out normalise or constraint")
    if part.constraint is not None and part.weight != 1:
        raise ConfigError(f"{kind}: a constraint learns the part's weight: leave out weight or constraint")


def check_timeout(kind: str, timeout_seconds: float) -> None:
    """Raises ConfigError unless the deadline is a time above 0."""
    if not 0 < timeout_seconds < math.inf:
        raise ConfigError(f"{kind}: timeout_seconds must be above 0 and finite, got {timeout_seconds}")


Score = float | str
"""A finite score, or the reason why there is none."""


def read_score(value: object) -> Score:
    """The finite number that `value` is (numbers, booleans, tensors and arrays of one element), or why it is none."""
    shown = f"{str(value)[:60]!r} ({type(value).__name__})"
    if not isinstance(value, SupportsFloat):
        return f"gave {shown}, not a number"
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return f"gave {shown}, which is not one finite number"
    return number if math.isfinite(number) else f"gave {number}"


def read_scores(values: object, count: int) -> list[Score]:
    """`count` scores of a list (or array) of as many; of anything else as many reasons."""
    try:
        listed = None if isinstance(values, str | bytes | dict) else list(values)  # type: ignore[call-overload]
    except TypeError:
        listed = None
    if listed is None:
        return [f"gave {str(values)[:60]!r} ({type(values).__name__}), not a list of {count} scores"] * count
    if len(listed) != count:
        return [f"gave {len(listed)} scores for {count} completions"] * count
    return [read_score(value) for value in listed]

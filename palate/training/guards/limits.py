"""How far each guard lets its reading go: the setting `guards` of a stage."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from palate.core import ConfigError


@dataclass(frozen=True)
class Limit:
    """How far a reading may go.

    Attributes:
        warn: warn when the reading is beyond this; none never warns.
        stop: stop the run when the reading is beyond this; none never stops.
        patience: rounds in a row beyond it before anything happens.
    """

    warn: float | None = None
    stop: float | None = None
    patience: int = 1

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise ConfigError(f"patience must be at least 1, got {self.patience}")
        if any(value is not None and not math.isfinite(value) for value in (self.warn, self.stop)):
            raise ConfigError("warn and stop must be finite numbers; none for no limit")


Watched = Limit | Literal["off"]


@dataclass(frozen=True)
class Guards:
    """What each guard of online training allows; `off` does not look at all. docs/metrics.md tells what each one reads.

    Attributes:
        kl: KL to the reference, nats a completion; above.
        entropy: entropy as a share of that of the first rounds; below.
        entropy_rise: the same share; above.
        length: length as a multiple of that of the first rounds; above.
        length_fall: the same; below.
        ended: share of completions that end by themselves; below.
        repetition: share of a completion's 4-grams that it holds more than once; above.
        clip: share of tokens held by the clip; above.
        ratio: distance of the mean ratio from 1; above.
        step_kl: half the squared log-ratio after the round's last step, nats a token; above.
        value: share of the returns' variance that the values explain; below.
        value_error: squared error of the values as a multiple of that of the first rounds; above.
        flat_groups: share of prompts whose completions all got the same reward; above.
        spread: standard deviation of the scores; below.
        gold: fall of gold from its best while the score rises, in standard errors; above.
        held_out: the same for a held-out reward model.
    """

    kl: Watched = Limit(warn=20.0, patience=2)
    entropy: Watched = Limit(warn=0.4, patience=3)
    entropy_rise: Watched = Limit(warn=2.0, patience=3)
    length: Watched = Limit(warn=1.6, patience=3)
    length_fall: Watched = Limit(warn=0.4, patience=3)
    ended: Watched = Limit(warn=0.5, patience=3)
    repetition: Watched = Limit(warn=0.4, patience=3)
    clip: Watched = Limit(warn=0.3, patience=3)
    ratio: Watched = Limit(warn=0.1, patience=2)
    step_kl: Watched = Limit(warn=0.1, patience=2)
    value: Watched = Limit(warn=0.0, patience=8)
    value_error: Watched = Limit(warn=5.0, patience=3)
    flat_groups: Watched = Limit(warn=0.8, patience=3)
    spread: Watched = Limit(warn=0.05, patience=3)
    gold: Watched = Limit(warn=6.0, patience=2)
    held_out: Watched = Limit(warn=6.0, patience=2)

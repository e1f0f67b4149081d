"""The limits of each guard: the setting `guards` of a stage."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from palate.core import ConfigError


@dataclass(frozen=True)
class Limit:
    """How far a reading may go before a guard acts.

    Attributes:
        warn: warn when the reading is beyond this; none for no warning.
        stop: stop the run when the reading is beyond this; none to never stop.
        patience: iterations in a row beyond the limit before the guard acts.
    """

    warn: float | None = None
    stop: float | None = None
    patience: int = 1

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise ConfigError(f"patience must be at least 1, got {self.patience}")
        if any(value is not None and not math.isfinite(value) for value in (self.warn, self.stop)):
            raise ConfigError("warn and stop must be finite numbers; use none for no limit")


Watched = Limit | Literal["off"]


@dataclass(frozen=True)
class Guards:
    """The limits of each guard of online training; `off` turns a guard off. docs/metrics.md says what each one reads.

    Attributes:
        kl: KL to the reference, in nats per completion; acts above the limit.
        entropy: entropy as a share of that of the first iterations; acts below the limit.
        entropy_rise: the same share; acts above the limit.
        length: length as a multiple of that of the first iterations; acts above the limit.
        length_fall: the same multiple; acts below the limit.
        eos: share of completions that end by themselves; acts below the limit.
        repetition: share of a completion's 4-grams that repeat an earlier one; acts above the limit.
        refusals: rise of the share of completions that refuse, since the first iterations; acts above the limit.
        tax: what an eval of `held_out.tax` has lost since the start, in grades, where that is more than chance; acts above the limit.
        clip: share of tokens whose ratio is clipped; acts above the limit.
        ratio: distance of the mean ratio from 1; acts above the limit.
        step_kl: half the squared log-ratio in the iteration's last step, in nats per token; acts above the limit.
        value: share of the returns' variance that the value model explains; acts below the limit.
        value_error: the value model's squared error as a multiple of that of the first iterations; acts above the limit.
        missing_eos: how far the reward for a missing end token is above the mean score of completions that end; acts above the limit.
        flat_groups: share of prompts whose completions all got the same reward; acts above the limit.
        spread: standard deviation of the scores; acts below the limit.
        gold: fall of gold from its best while the score rises, in standard errors; acts above the limit.
        held_out: the same for the score of a held-out reward model.
    """

    kl: Watched = Limit(warn=20.0, patience=2)
    entropy: Watched = Limit(warn=0.4, patience=3)
    entropy_rise: Watched = Limit(warn=2.0, patience=3)
    length: Watched = Limit(warn=1.4)
    length_fall: Watched = Limit(warn=0.4)
    eos: Watched = Limit(warn=0.5, patience=3)
    repetition: Watched = Limit(warn=0.4, patience=3)
    refusals: Watched = Limit(warn=0.15)
    tax: Watched = Limit(warn=0.05)
    clip: Watched = Limit(warn=0.3, patience=3)
    ratio: Watched = Limit(warn=0.1, patience=2)
    step_kl: Watched = Limit(warn=0.1, patience=2)
    value: Watched = Limit(warn=0.0, patience=8)
    value_error: Watched = Limit(warn=5.0, patience=3)
    missing_eos: Watched = Limit(warn=0.0)
    flat_groups: Watched = Limit(warn=0.8, patience=3)
    spread: Watched = Limit(warn=0.05, patience=3)
    gold: Watched = Limit(warn=3.0)
    held_out: Watched = Limit(warn=3.0)

    @property
    def can_stop(self) -> bool:
        """Whether a guard has a limit that stops the run."""
        return any(isinstance(watched, Limit) and watched.stop is not None for watched in vars(self).values())

"""What a report says about online training: score and gold of each iteration, by run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from palate.evaluation.report.records import VariantRole


@dataclass(frozen=True, slots=True)
class TrainingPoint:
    """One evaluation during training. `kl` is the summed KL of a completion to the reference policy, in nats.

    `proxy` is the reward model's score. `reward` is what training maximises, before the price of KL: the score with its penalties.
    `gold` is the truth where it is known. `tax` is how far texts and evals are from the start, each with its standard error.
    """

    step: int
    kl: float
    proxy: float
    gold: float | None = None
    gold_se: float | None = None
    proxy_se: float | None = None
    length: float | None = None
    reward: float | None = None
    reward_se: float | None = None
    tax: Mapping[str, tuple[float, float | None]] = field(default_factory=dict)

    @property
    def sqrt_kl(self) -> float:
        """sqrt(max(KL, 0)): an estimate of a tiny KL may fall below zero."""
        return math.sqrt(max(self.kl, 0.0))


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """One run of online training, points in order of steps. `kl_coef` 0 marks the run without the KL penalty.

    `variant` is the model of the report that the run made, "" where it made none of them.
    """

    name: str
    kl_coef: float
    points: tuple[TrainingPoint, ...]
    role: VariantRole = "online"
    n: int = 0
    variant: str = ""


@dataclass(frozen=True, slots=True)
class Training:
    """Proxy and gold through training. `tuned` and `without_kl` name the two runs that the page compares.

    `also_off` is what else the run without a KL penalty lacks and the tuned one has, as the page names it; "" for nothing.
    """

    runs: tuple[TrainingRun, ...]
    tuned: str
    without_kl: str | None = None
    also_off: str = ""
    gold_name: str = "gold"
    proxy_name: str = "reward model\u2019s score"

    @property
    def off(self) -> str:
        """What the run without a KL penalty lacks."""
        return f"KL penalty and the {self.also_off}" if self.also_off else "KL penalty"

    @property
    def what_is_off(self) -> str:
        """The same where it was named before."""
        return "both" if self.also_off else "the penalty"

"""The rows of the report's sections on levers: strengths of the KL penalty, other settings with what they did, and standing controls."""

from __future__ import annotations

import math
from dataclasses import dataclass

from palate.evaluation.intervals import Estimate


@dataclass(frozen=True, slots=True)
class ControlRow:
    """A control, or a model of the report beside the controls.

    Attributes:
        name: what the page calls it.
        variant: the model's key, "" for a control.
        score: the reward model's mean score.
        score_gap: by how much that is above the report's reference, paired by prompt; None for the reference.
        gold: mean gold.
        gold_gap: by how much that is above the reference.
    """

    name: str
    variant: str = ""
    score: Estimate | None = None
    score_gap: Estimate | None = None
    gold: Estimate | None = None
    gold_gap: Estimate | None = None


@dataclass(frozen=True, slots=True)
class SweepScore:
    """What a reward model says of a run of a sweep.

    Attributes:
        value: its mean score.
        over_best: the score less that of the run whose measure is best, with an interval that allows for the choice of that run; None
            for that run.
    """

    value: Estimate
    over_best: Estimate | None = None


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """A run of a sweep over KL strengths.

    Attributes:
        coefficient: the KL coefficient that it was trained with.
        kl: KL to the start, nats.
        value: the measure.
        over_start: the measure less that of the start.
        below_best: the measure less that of the best point, with an interval that allows for the choice of the best; None for the best.
        proxy: what the reward model says that the run was trained on, where that is not the measure.
        held_out: what a reward model says that no run was trained on, where that is not the measure.
        run: the name of the online run.
        others: the other settings in which it differs from the best run, in words.
        is_tuned: whether it is the report's tuned run.
    """

    coefficient: float
    kl: Estimate
    value: Estimate
    over_start: Estimate | None = None
    below_best: Estimate | None = None
    proxy: SweepScore | None = None
    held_out: SweepScore | None = None
    run: str = ""
    others: tuple[str, ...] = ()
    is_tuned: bool = False

    @property
    def sqrt_kl(self) -> float:
        """sqrt(max(KL, 0)): an estimate of a tiny KL may fall below zero."""
        return math.sqrt(max(self.kl.value, 0.0))


@dataclass(frozen=True, slots=True)
class KLSweep:
    """A sweep over KL strengths, points in order of their coefficients.

    Attributes:
        measure: what was measured: gold, or a held-out score.
        points: one per run.
        start: the measure of the model that all runs start from, None where it was not measured.
        start_name: what the page calls that model.
        how: which completions the figures are of.
        start_proxy: the start's score by the reward model that the runs were trained on.
        start_held_out: the start's score by the reward model that no run was trained on.
    """

    measure: str
    points: tuple[SweepPoint, ...]
    start: Estimate | None
    start_name: str
    how: str
    start_proxy: Estimate | None = None
    start_held_out: Estimate | None = None

    @property
    def best(self) -> SweepPoint:
        """The point with the highest measure."""
        return max(self.points, key=lambda point: point.value.value)


@dataclass(frozen=True, slots=True)
class LeverPoint:
    """One setting of a lever.

    Attributes:
        at: the setting in words.
        gold: gold of the policy.
        accuracy: accuracy of the reward model on held-out judgments, None where the lever has none.
        inside: gold on the prompts of the lever's region.
        outside: gold on the other prompts.
    """

    at: str
    gold: Estimate
    accuracy: Estimate | None = None
    inside: Estimate | None = None
    outside: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Lever:
    """What one setting did, from its first point to its last.

    Attributes:
        name: the lever.
        setting: what its points say.
        points: in order, the least of it first.
        changes: the last point less the first, paired by prompt, for `accuracy`, `gold`, `inside` and `outside`, as far as they are known.
        prompts: prompts that the policies of all points answered.
    """

    name: str
    setting: str
    points: tuple[LeverPoint, ...]
    changes: dict[str, Estimate]
    prompts: int

    @property
    def has_region(self) -> bool:
        """Whether there are figures inside and outside of a region of prompts."""
        return self.points[0].inside is not None

    @property
    def main_change(self) -> Estimate:
        """The change that the lever is about: that inside of its region, or that of gold."""
        return self.changes["inside" if self.has_region else "gold"]


@dataclass(frozen=True, slots=True)
class AccuracyEffect:
    """Gold of policies against the accuracy of their reward models, over all levers.

    Attributes:
        points: (lever, setting, accuracy, gold).
        slope: gold per ten points of accuracy, by least squares. Its interval is that of other prompts, the accuracies taken as known.
        ceiling: the best accuracy against these raters, None where it is not known.
    """

    points: tuple[tuple[str, str, Estimate, Estimate], ...]
    slope: Estimate
    ceiling: float | None = None


@dataclass(frozen=True, slots=True)
class Levers:
    """All levers of a page, and what the accuracy of reward models did to gold."""

    levers: tuple[Lever, ...] = ()
    accuracy: AccuracyEffect | None = None

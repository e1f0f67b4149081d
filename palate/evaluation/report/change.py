"""What new judgments changed in a reward model: the record that the page of a refresh shows, and its sentences."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from palate.agreement.curve import LearningCurve
from palate.evaluation.calibration import Bin
from palate.evaluation.intervals import Estimate
from palate.evaluation.report.formatting import MINUS, number, percent, signed, thousands


@dataclass(frozen=True, slots=True)
class HeldOutChange:
    """Both models on one set of judgments, `new` or `old`: accuracy, its paired difference, and calibration as (before, after)."""

    name: str
    before: Estimate
    after: Estimate
    change: Estimate
    log_loss: tuple[float, float]
    calibration_error: tuple[float, float]
    bins: tuple[tuple[Bin, ...], tuple[Bin, ...]]


@dataclass(frozen=True, slots=True)
class RescoredCompletion:
    """A completion and its (score before, score after), in logits from the mean of its prompt's completions."""

    text: str
    scores: tuple[float, float]


@dataclass(frozen=True, slots=True)
class ChangedBest:
    """A prompt whose best completion is another one now."""

    prompt: str
    best_before: RescoredCompletion
    best_now: RescoredCompletion


@dataclass(frozen=True, slots=True)
class RewardChange:
    """A reward model before and after.

    Attributes:
        subtitle: one line below the headline.
        tests: on new judgments, then on old ones where there are any.
        spread: of raw scores on samples, (before, after), in logits.
        correlation: of the scores before and after.
        prompts: prompts of the samples with two completions or more.
        best_changed: how many of them have another best completion now.
        moved: the first of these.
        curve: accuracy against labels, where it was measured.
        queued: pairs without a judgment that were put in order for people; 0 where people are not asked.
        commands: (label, command) to put the model in use and back.
        facts: label-value pairs for the foot.
    """

    subtitle: str
    tests: tuple[HeldOutChange, ...]
    spread: tuple[float, float]
    correlation: float
    prompts: int
    best_changed: int
    moved: tuple[ChangedBest, ...] = ()
    curve: LearningCurve | None = None
    queued: int = 0
    commands: tuple[tuple[str, str], ...] = ()
    facts: tuple[tuple[str, str], ...] = ()

    @property
    def new(self) -> HeldOutChange:
        """On new judgments."""
        return self.tests[0]

    @property
    def old(self) -> HeldOutChange | None:
        """On old judgments."""
        return self.tests[1] if len(self.tests) > 1 else None


def headline(change: RewardChange) -> str:
    """Say in one sentence what changed."""
    new, old = change.new, change.old
    first = f"{_direction(new.change, 'Better on', 'Worse on', 'No measurable change on')} the new judgments: {accuracies(new)}"
    if old is None:
        return first
    return f"{first}; {_direction(old.change, 'better on', 'worse on', 'no measurable change on')} the old ones: {accuracies(old)}"


def accuracies(test: HeldOutChange) -> str:
    """Both accuracies: "62 % to 71 %"."""
    return f"{percent(test.before.value)} to {percent(test.after.value)}".replace(" %", "\u00a0%")


def _direction(change: Estimate, better: str, worse: str, same: str) -> str:
    if not change.excludes_zero:
        return same
    return better if change.value > 0 else worse


def advice(change: RewardChange) -> str:
    """Say whether to use the new model, and why."""
    new, old = change.new.change, change.old.change if change.old else None
    digits = 0 if new.high - new.low > 0.05 else 1
    points = f"{signed(100 * new.low, digits)} to {signed(100 * new.high, digits)} points"
    if old is not None and old.excludes_zero and old.value < 0:
        lost, won = number(-100 * old.value, 1), signed(100 * new.value, 1)
        return f"Think twice: it lost {lost} points on old judgments ({won} on new ones). Raise replay_share, or lower epochs."
    if new.excludes_zero and new.value > 0:
        no_loss = "" if old is None else ", and the old judgments show no loss"
        return f"Put it in use: the gain on new judgments is real ({points}){no_loss}."
    if new.excludes_zero:
        return f"Keep the former model: this one is worse on new judgments ({points}). Are sides swapped? Do raters agree?"
    if not isfinite(new.low):
        few = f"too few new judgments are held out ({change.new.after.n})"
        return f"No difference can be shown yet: {few}. Judge more pairs, then refresh again."
    few = f"{thousands(change.new.after.n)} held-out judgments"
    if new.low == new.high:
        return f"No difference can be shown yet: both models are right about the same ones of {few}. Judge more pairs, then refresh again."
    return f"No difference can be shown yet: on {few} the change lies somewhere from {points}. Judge more pairs, then refresh again."


def scale_sentence(change: RewardChange) -> str:
    """Say how the scale of the scores and the ranking changed."""
    before, after = change.spread
    ratio = after / before if before else float("inf")
    way = "spread as before" if 0.9 < ratio < 1.1 else "spread wider" if ratio > 1 else "spread less"
    return (
        f"On {thousands(change.prompts)} prompts' samples raw scores {way}: {number(before)} to {number(after)} logits. They are "
        f"normalised again, so settings of KL and clipping keep their meaning. Scores correlate by {number(change.correlation, 3)} with "
        f"the former ones, and for {thousands(change.best_changed)} prompts "
        f"({percent(change.best_changed / change.prompts if change.prompts else 0.0)}) another completion is now the best."
    )


def calibration_sentence(change: RewardChange) -> str:
    """Say how far stated probabilities are from what came true, before and now."""
    parts = []
    for test in change.tests:
        before, after = (100 * error for error in test.calibration_error)
        parts.append(f"on {test.name} judgments they miss by {number(after, 0)} points on average ({number(before, 0)} before)")
    return "When the model states 70 %, 70 % should come true: " + ", ".join(parts) + "."


def lines(change: RewardChange) -> tuple[str, ...]:
    """Return what a terminal shows below the table."""
    sentences = (advice(change), *(() if change.curve is None else (change.curve.sentence(),)))
    return tuple(line.replace(MINUS, "-") for line in sentences)

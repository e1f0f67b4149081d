"""What learning from new judgments changed in a reward model, as a record and in words."""

from __future__ import annotations

from dataclasses import dataclass

from palate.agreement.curve import LearningCurve
from palate.evaluation.calibration import Bin
from palate.evaluation.intervals import Estimate
from palate.evaluation.report.formatting import MINUS, number, percent, signed, thousands


@dataclass(frozen=True, slots=True)
class ChangeOn:
    """One set of judgments, `new` or `old`: each model's accuracy, their paired difference, and for (before, after) the calibration."""

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
class Moved:
    """A prompt of which another completion is the best now."""

    prompt: str
    was: RescoredCompletion
    now: RescoredCompletion


@dataclass(frozen=True, slots=True)
class Change:
    """A reward model before and after.

    Attributes:
        subtitle: one line below the headline.
        tests: new judgments, then old ones where they were given.
        spread: of raw scores on samples, (before, after), in logits.
        correlation: of the scores before and after.
        prompts: samples' prompts with two completions or more; `best_changed`: of how many another one is the best now.
        moved: some of these, not a selection.
        curve: accuracy against labels, where it was measured.
        asked_next: how many pairs nobody has judged were put in order for people; 0 where nobody was asked.
        commands: what to type to swap the model in and back, with a word on each.
        facts: label-value pairs for the foot.
    """

    subtitle: str
    tests: tuple[ChangeOn, ...]
    spread: tuple[float, float]
    correlation: float
    prompts: int
    best_changed: int
    moved: tuple[Moved, ...] = ()
    curve: LearningCurve | None = None
    asked_next: int = 0
    commands: tuple[tuple[str, str], ...] = ()
    facts: tuple[tuple[str, str], ...] = ()

    @property
    def new(self) -> ChangeOn:
        """On new judgments."""
        return self.tests[0]

    @property
    def old(self) -> ChangeOn | None:
        """On old judgments."""
        return self.tests[1] if len(self.tests) > 1 else None


def headline(change: Change) -> str:
    """What changed, in one sentence."""
    new, old = change.new, change.old
    told = f"{_direction(new.change, 'Better on', 'Worse on', 'No measurable change on')} the new judgments: {moved(new)}"
    if old is None:
        return told
    return f"{told}; {_direction(old.change, 'better on', 'worse on', 'no measurable change on')} the old ones: {moved(old)}"


def moved(test: ChangeOn) -> str:
    """Both accuracies: "62 % to 71 %"."""
    return f"{percent(test.before.value)} to {percent(test.after.value)}".replace(" %", "\u00a0%")


def _direction(change: Estimate, better: str, worse: str, same: str) -> str:
    if not change.excludes_zero:
        return same
    return better if change.value > 0 else worse


def advice(change: Change) -> str:
    """Whether to use the new model, and why."""
    new, old = change.new.change, change.old.change if change.old else None
    digits = 0 if new.high - new.low > 0.05 else 1
    points = f"{signed(100 * new.low, digits)} to {signed(100 * new.high, digits)} points"
    if old is not None and old.excludes_zero and old.value < 0:
        lost, won = number(-100 * old.value, 1), signed(100 * new.value, 1)
        return f"Think twice: it lost {lost} points on judgments that it knew ({won} on new ones). Raise replay_share, or lower epochs."
    if new.excludes_zero and new.value > 0:
        kept = "" if old is None else ", and what it knew is kept as far as the old judgments can tell"
        return f"Swap it in: the gain on new judgments is real ({points}){kept}."
    if new.excludes_zero:
        return f"Keep the former model: this one is worse on new judgments ({points}). Are sides swapped, or do raters disagree?"
    few = f"{thousands(change.new.after.n)} held-out judgments"
    if new.low == new.high:
        return f"Nothing tells the two apart yet: they are right about the same ones of {few}. Judge more pairs, then refresh again."
    return f"Nothing tells the two apart yet: on {few} the change lies anywhere from {points}. Judge more pairs, then refresh again."


def scale_told(change: Change) -> str:
    """What became of the scale of the scores, and of the ranking."""
    before, after = change.spread
    ratio = after / before if before else float("inf")
    way = "spread as before" if 0.9 < ratio < 1.1 else "spread wider" if ratio > 1 else "spread less"
    return (
        f"On {thousands(change.prompts)} prompts' samples raw scores {way}: {number(before)} to {number(after)} logits. They are "
        f"normalised anew, so KL and clipping settings keep their meaning. Scores correlate by {number(change.correlation, 3)} with "
        f"the former ones, and for {thousands(change.best_changed)} prompts "
        f"({percent(change.best_changed / change.prompts if change.prompts else 0.0)}) another completion is now the best."
    )


def calibration_told(change: Change) -> str:
    """Whether stated probabilities come truer than before."""
    parts = []
    for test in change.tests:
        then, now = (100 * error for error in test.calibration_error)
        parts.append(f"on {test.name} judgments they miss by {number(now, 0)} points on average ({number(then, 0)} before)")
    return "When the model states 70 %, 70 % should come true: " + ", ".join(parts) + "."


def lines(change: Change) -> tuple[str, ...]:
    """What a terminal says below the table."""
    told = (advice(change), *(() if change.curve is None else (change.curve.told(),)))
    return tuple(line.replace(MINUS, "-") for line in told)

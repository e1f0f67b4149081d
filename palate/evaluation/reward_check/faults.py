"""What is wrong with a reward model, named only where an interval supports it, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from palate.agreement.estimates import Estimate
from palate.evaluation.reward_check.accuracy import AccuracyFigures, GroupAccuracy
from palate.evaluation.reward_check.attacks import AttackResult
from palate.evaluation.reward_check.length_effect import LengthEffect
from palate.evaluation.reward_check.reading_habits import MOST_UNKNOWN, ReadingHabits

MANY = 3.0
"""Standard errors that a fault among several looked for must be away from what is sound: with 1.96, one in 20 would be a false alarm."""

NEAR_CHANCE = 0.6
"""A model whose interval reaches 0.5 or less and ends below this is at chance. With a wider interval there are too few pairs to tell.

A chance model may lean to a length, and so be a little below 0.5 by its interval. Sides were swapped where it ends below 1 - this."""

USELESS = 0.55
"""A model whose interval ends below this is near chance even where the interval excludes 0.5: `online` refuses a lower accuracy."""

NEARLY_LENGTH = 0.9
"""A score that picks one length on more than this share of pairs, by its interval, is hardly anything but length."""

Verdict = Literal["passes", "faulty", "open"]
"""`open`: no fault is shown, and neither is that the model is better than chance or than a length rule."""

FaultName = Literal["chance", "reversed", "length", "blind", "tokenizer", "attack", "unstable"]


@dataclass(frozen=True)
class RewardFault:
    """Something that is wrong, and the figures that show it."""

    name: FaultName
    sentence: str


@dataclass(frozen=True)
class Evidence:
    """What faults are found in."""

    figures: AccuracyFigures
    dimensions: Sequence[GroupAccuracy]
    rest: Sequence[Estimate]
    length: LengthEffect | None
    attacks: Sequence[AttackResult]
    attack_limit: float
    habits: ReadingHabits
    change: float
    change_limit: float


def find_faults(evidence: Evidence) -> tuple[RewardFault, ...]:
    """Return every fault that an interval (or a plain fact) supports."""
    return (*_of_accuracy(evidence), *_of_dimensions(evidence), *_of_length(evidence), *_of_habits(evidence), *_of_attacks(evidence))


def verdict_of(figures: AccuracyFigures, faults: Sequence[RewardFault]) -> Verdict:
    """Return whether the model passes: by the intervals better than chance and than the better length rule, and without a fault."""
    if faults:
        return "faulty"
    return "passes" if figures.accuracy.low > 0.5 and figures.over_length.low > 0 else "open"


def verdict_sentence(verdict: Verdict, figures: AccuracyFigures, faults: Sequence[RewardFault]) -> str:
    """Return the verdict in words, the first line of the page."""
    right = f"it is right on {percent(figures.accuracy)} of {figures.accuracy.n} prompts' pairs"
    rule = f"the better length rule on {figures.floor.value:.1%}"
    if verdict == "passes":
        return f"This reward model passes: {right}, {rule}, and no fault is shown."
    if verdict == "faulty":
        return f"Do not train on this reward model: {'; '.join(fault.sentence for fault in faults)}."
    missing = "better than chance" if figures.accuracy.low <= 0.5 else "better than a rule that looks at the length alone"
    return f"Not shown: that this reward model is {missing}. {right.capitalize()}, {rule}. Judge more pairs."


def percent(estimate: Estimate) -> str:
    """Return a share with its interval in words."""
    return f"{estimate.value:.1%} [{estimate.low:.1%}, {estimate.high:.1%}]"


def _of_accuracy(evidence: Evidence) -> list[RewardFault]:
    accuracy = evidence.figures.accuracy
    if accuracy.high < 1 - NEAR_CHANCE:
        return [RewardFault("reversed", f"it prefers the worse side: accuracy {percent(accuracy)}, so check whether sides were swapped")]
    # A score that is nearly length alone is at chance where length says nothing. Below chance length explains nothing.
    # A model of shuffled labels may lean to a length too, but not on nearly all pairs.
    explained = (
        evidence.length is not None and evidence.length.is_fault and accuracy.high >= 0.5 and evidence.length.follows.low > NEARLY_LENGTH
    )
    if not explained and (accuracy.high < USELESS or (accuracy.low <= 0.5 and accuracy.high < NEAR_CHANCE)):
        return [RewardFault("chance", f"it is at chance, as a model trained on shuffled labels is: accuracy {percent(accuracy)}")]
    return []


def _of_dimensions(evidence: Evidence) -> list[RewardFault]:
    found = []
    for group, rest in zip(evidence.dimensions, evidence.rest, strict=True):
        if group.accuracy.low <= 0.5 and group.accuracy.high < rest.low:
            figures = f"accuracy {percent(group.accuracy)} there, {percent(rest)} elsewhere"
            found.append(RewardFault("blind", f"it is blind to {group.name}: {figures}"))
    return found


def _of_length(evidence: Evidence) -> list[RewardFault]:
    length = evidence.length
    if length is None or not length.is_fault or length.against is None:
        return []
    other = "shorter" if length.prefers == "longer" else "longer"
    figures = f"where the {other} side is better it is right on {percent(length.against)}"
    return [RewardFault("length", f"it scores length: it picks the {length.prefers} side on {percent(length.follows)}, and {figures}")]


def _of_habits(evidence: Evidence) -> list[RewardFault]:
    habits, found = evidence.habits, []
    if habits.changed:
        where = ", ".join(habits.changed)
        found.append(RewardFault("tokenizer", f"the tokenizer or chat template in {where} is not the one that it was trained with"))
    if habits.unknown is not None and habits.unknown.low > MOST_UNKNOWN:
        found.append(RewardFault("tokenizer", f"its tokenizer does not know {percent(habits.unknown)} of the completions' tokens"))
    if habits.likelihood is not None and habits.likelihood.is_fault:
        figures = f"{habits.likelihood.mean.value:.1f} nats per token, where a guess among all tokens has {habits.likelihood.guess:.1f}"
        found.append(RewardFault("tokenizer", f"its own language model finds the completions less likely than a guess: {figures}"))
    for way in habits.renderings:
        if way.accuracy.low > 0.5 and way.gain.z > MANY:
            gain = f"{way.accuracy.value:.1%} in place of {way.accuracy.value - way.gain.value:.1%}"
            found.append(RewardFault("tokenizer", f"it has another template's habits: {way.name} it is right more often, {gain}"))
    if evidence.change > evidence.change_limit:
        found.append(RewardFault("unstable", f"a score changes by {evidence.change:.2g} with what is scored beside it"))
    return found


def _of_attacks(evidence: Evidence) -> list[RewardFault]:
    lost = [one for one in evidence.attacks if one.is_fault(evidence.attack_limit)]
    return [RewardFault("attack", f"{one.name}: the better side wins against {one.meaning} on {percent(one.wins)} only") for one in lost]

"""How well a classifier tells broken rules from kept ones, and how far raters agree on each rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from palate.agreement import krippendorff_alpha
from palate.agreement.estimates import Estimate, clustered_share, json_values
from palate.evaluation.calibration import expected_calibration_error, reliability
from palate.evaluation.ranking_quality import auc
from palate.evaluation.rule_votes import RuledCompletion

ENOUGH_ALPHA = 0.4
"""Krippendorff's alpha below which a rule is badly worded: raters who read it mean different things."""

ENOUGH_AUC = 0.9
"""The area under the curve that a classifier should reach on wordings that it has not learned."""

Wording = Literal["question", "held_out"]
"""The rule's question, or another wording that classifiers never learn."""


@dataclass(frozen=True)
class RulePrediction:
    """What a classifier says about one completion and one wording of a rule.

    Attributes:
        rule: the rule's id.
        wording: the question, or a wording that was not learned.
        probability: that the rule is broken.
        prompt: number of the prompt; completions of one prompt are alike.
        broken: share of the raters who say that it is broken.
        votes: how many raters that are.
        truth: what the rule's program says; None where it has none.
    """

    rule: str
    wording: Wording
    probability: float
    prompt: int
    broken: float
    votes: int
    truth: bool | None = None

    @property
    def num_broken(self) -> int:
        """How many raters say that it is broken."""
        return round(self.broken * self.votes)


@dataclass(frozen=True)
class RuleFigures:
    """The figures of one rule, or of all.

    Attributes:
        questions: completions that were asked about.
        base_rate: share of votes for broken, with an interval over prompts.
        auc: the area under the ROC curve against the majority of the raters, under the question.
        auc_held_out: the same under wordings that were not learned; None where there are none.
        auc_program: the area against what the rule's program says, under the question; None where it has none.
        auc_program_held_out: the same under wordings that were not learned.
        brier: mean squared difference of probability and single vote.
        brier_base: that of always saying the base rate.
        calibration_error: the expected calibration error, 10 bins.
        agreement: Krippendorff's alpha of the raters; None where no completion has two votes.
        is_badly_worded: whether the whole interval of the agreement is below 0.4; None where it is not known.
        is_learned: whether the classifier was trained on this rule.
    """

    questions: int
    base_rate: Estimate
    auc: Estimate
    auc_held_out: Estimate | None
    auc_program: Estimate | None
    auc_program_held_out: Estimate | None
    brier: float
    brier_base: float
    calibration_error: float
    agreement: Estimate | None
    is_badly_worded: bool | None
    is_learned: bool = True

    def plain(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        plain: dict[str, Any] = json_values(asdict(self))
        return plain


def figures_of(
    predictions: Sequence[RulePrediction], votes: Sequence[RuledCompletion], seed: int, *, is_learned: bool = True
) -> RuleFigures | None:
    """Return the figures of some predictions, and of all votes on the same rules; None without a prediction under the question.

    Args:
        predictions: of held-out completions.
        votes: of all raters on these rules; agreement is measured on them.
        seed: seed of the bootstrap of the agreement.
        is_learned: whether the classifier was trained on these rules.
    """
    asked, unseen = ([one for one in predictions if one.wording == wording] for wording in ("question", "held_out"))
    if not asked:
        return None
    said = np.array([one.broken for one in asked])
    probabilities, counts = np.array([one.probability for one in asked]), np.array([one.votes for one in asked])
    flags = np.concatenate([np.repeat([1.0, 0.0], [one.num_broken, one.votes - one.num_broken]) for one in asked])
    base = clustered_share(flags, np.repeat([one.prompt for one in asked], counts))
    agreement = alpha_of(votes, seed)
    return RuleFigures(
        len(asked),
        base,
        _auc(asked),
        _auc(unseen) if unseen else None,
        _auc_program(asked),
        _auc_program(unseen),
        # A single vote differs from its completion's share by the votes' own spread, which nobody can predict.
        float(np.average((probabilities - said) ** 2 + said * (1 - said), weights=counts)),
        base.value * (1 - base.value),
        expected_calibration_error(reliability(probabilities, said)),
        agreement,
        is_badly_worded(agreement),
        is_learned,
    )


def _auc(predictions: Sequence[RulePrediction]) -> Estimate:
    """Return the area against the majority of the raters; completions that they are divided on are left out."""
    sided = [one for one in predictions if one.broken != 0.5]
    return auc([one.probability for one in sided], [one.broken > 0.5 for one in sided], [one.prompt for one in sided])


def _auc_program(predictions: Sequence[RulePrediction]) -> Estimate | None:
    known = [(one.probability, one.truth, one.prompt) for one in predictions if one.truth is not None]
    return auc(*zip(*known, strict=True)) if known else None


def alpha_of(votes: Sequence[RuledCompletion], seed: int) -> Estimate | None:
    """Return Krippendorff's alpha of the raters of a rule, with its interval; None where no completion has two votes."""
    counts = np.array([(one.num_broken, len(one.votes) - one.num_broken) for one in votes if len(one.votes) > 1], dtype=np.float64)
    return krippendorff_alpha(counts, np.random.default_rng(seed)) if counts.size else None


def is_badly_worded(agreement: Estimate | None) -> bool | None:
    """Return whether the whole interval of the agreement is below 0.4; None where the agreement is not known."""
    return None if agreement is None or math.isnan(agreement.high) else agreement.high < ENOUGH_ALPHA


def findings(figures: Mapping[str, RuleFigures]) -> list[str]:
    """Return sentences about rules that are badly worded, and about wordings on which the classifier has not reached 0.9.

    Args:
        figures: by rule.
    """
    said = []
    for rule, own in figures.items():
        if own.is_badly_worded and own.agreement is not None:
            said.append(disagreement(rule, own.agreement))
        if reason := shortfall(own.auc_program_held_out or own.auc_held_out):
            said.append(f"rule {rule}: {reason}")
    return said


def shortfall(tested: Estimate | None) -> str | None:
    """Return why a test does not show that a classifier finds breaches of a rule; None where the whole interval is 0.9 or above.

    Args:
        tested: the area under the curve on held-out wordings; None where the rule has none.
    """
    reason: str | None = "it has no held-out wording, so nobody knows whether the classifier reads it"
    if tested is not None:
        reason = None
        if math.isnan(tested.value):
            reason = "the test holds no completion that breaks it, or none that keeps it, so the classifier is not tested"
        elif math.isnan(tested.low):
            reason = f"the test holds one prompt alone, so nobody knows how far off the area under the curve is ({tested.value:.3f})"
        elif tested.low < ENOUGH_AUC:
            has = "has not reached" if tested.value < ENOUGH_AUC else "may be below"
            reason = f"on held-out wordings the classifier {has} {ENOUGH_AUC:g} (area under the curve {_in_words(tested)})"
    return reason


def disagreement(rule: str, agreement: Estimate) -> str:
    """Return a sentence about a rule that is badly worded."""
    return (
        f"rule {rule}: raters do not agree on it (alpha {_in_words(agreement)}; {ENOUGH_ALPHA:g} is the least). Word it anew, give raters "
        "examples, or let them judge more completions that break it"
    )


def _in_words(estimate: Estimate) -> str:
    return f"{estimate.value:.3f}, {estimate.low:.3f} to {estimate.high:.3f}"

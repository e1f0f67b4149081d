"""What to do about the figures: a sentence for each finding that needs action, the most urgent first."""

from __future__ import annotations

import math
from collections.abc import Iterator

from palate.agreement.analysis import AgreementReport
from palate.agreement.bias import Bias
from palate.agreement.estimates import Z95, Estimate
from palate.agreement.raters import RaterReport

DOUBLES = 100
"""With fewer comparisons that have two votes, figures of agreement are rough."""

WEAK, POOR = 0.4, 0.1
"""Below the first alpha votes need smoothing; below the second the question itself is in doubt."""

SWAY = 0.52
"""A habit is named when it decides this share of even pairs. With many votes any habit is significant, however small."""

STEADY = 0.75
"""Raters are called unsteady who repeat fewer of their own answers."""

_TESTS, _WORSE = 5, 0.1
"""A rater is named who saw this many hidden tests, and whose interval ends this far below the mean of all raters."""


def advice(report: AgreementReport) -> tuple[str, ...]:
    """Return sentences that name a finding and what to do about it, or one that says that there is nothing to do."""
    parts = (_overlap, _agreement, _repeats, _raters, _ties, _sway)
    sentences = tuple(sentence for part in parts for sentence in part(report))
    return sentences or ("These figures call for no action.",)


def _overlap(report: AgreementReport) -> Iterator[str]:
    if not report.doubles:
        yield f"No question has two votes, so nothing is known about agreement. Have a second rater judge {DOUBLES} of them."
    elif report.doubles < DOUBLES:
        yield (
            f"Only {report.doubles} questions have two votes or more: the figures of agreement are rough. "
            f"Have a second rater judge {DOUBLES - report.doubles} more."
        )


def _agreement(report: AgreementReport) -> Iterator[str]:
    if report.alpha.value < POOR:
        yield "Raters agree hardly better than chance. Look at the question and the guidelines before you ask for more judgments."
    elif report.alpha.value < WEAK:
        yield (
            "Agreement is weak, as with many pools of raters. Ask two or three raters about each pair, and train on smoothed shares, "
            "not on majorities."
        )


def _repeats(report: AgreementReport) -> Iterator[str]:
    repeats = report.repeats
    turned = None if repeats is None else repeats.turned
    if turned is not None and turned.value < STEADY and turned.high < 1:
        yield (
            f"Raters gave another answer in {1 - turned.value:.0%} of the cases in which they saw a pair again the other way round. Their "
            "agreement with each other is worth no more than that: look at the side, and at the question."
        )
    elif repeats is not None and repeats.same.value < STEADY and repeats.same.high < 1:
        yield (
            f"Raters gave another answer in {1 - repeats.same.value:.0%} of the cases in which they judged a pair again. Their agreement "
            "with each other is worth no more than that: look at the question."
        )


def _raters(report: AgreementReport) -> Iterator[str]:
    if report.guessing:
        votes = sum(rater.votes for rater in report.by_rater if rater.is_guessing)
        yield (
            f"{', '.join(report.guessing)} cannot be told from guessing ({votes} of {report.votes} votes). Look at their answers "
            "before you pay or drop them."
        )
    tested = [(rater, rater.gold) for rater in report.by_rater if rater.gold is not None]
    mean = sum(gold.value * gold.n for _, gold in tested) / max(sum(gold.n for _, gold in tested), 1)
    failing = [_tests(rater) for rater, gold in tested if gold.n >= _TESTS and gold.high < mean - _WORSE]
    if failing:
        yield f"Fewer hidden tests right than the {mean:.0%} of all: {', '.join(failing)}. Talk to them, or ask others."


def _tests(rater: RaterReport) -> str:
    return "" if rater.gold is None else f"{rater.rater} ({rater.gold.value:.0%} of {rater.gold.n})"


def _ties(report: AgreementReport) -> Iterator[str]:
    if 2 * report.ties > report.votes:
        yield "More than half of the answers are ties, which teach a reward model little. Show completions that differ more."


def _sway(report: AgreementReport) -> Iterator[str]:
    if is_swayed(report.side) and not report.saw_all_orders:
        side = "first" if report.side.logit.value > 0 else "second"
        yield (
            f"Raters lean to what is shown {side}: between equal completions it wins {favoured_words(report.side)} of the time. "
            "Show sides in random order. Where sides were fixed, have pairs judged the other way round, too."
        )
    if is_swayed(report.length):
        which = "longer" if report.length.logit.value > 0 else "shorter"
        yield (
            f"Votes go with the {which} completion: ten words turn an even pair into {favoured_words(report.length)}. That may be quality "
            "or taste. Say in the guidelines what length is worth, and compare the reward model with the rule that picks by length alone."
        )


def favoured(bias: Bias) -> float:
    """Return how often the favoured one of two equal completions wins, 0.5 to 1; at least so often where the estimate is infinite."""
    return 1 / (1 + math.exp(-abs(nearest(bias.logit))))


def favoured_words(bias: Bias) -> str:
    """Return `favoured` as a percentage, with "at least" where only that is known."""
    return f"{'at least ' if math.isinf(bias.logit.value) else ''}{favoured(bias):.1%}"


def nearest(logit: Estimate) -> float:
    """Return the estimate, or the finite end of its interval where the estimate is infinite."""
    if math.isinf(logit.value):
        return logit.low if logit.value > 0 else logit.high
    return logit.value


def is_swayed(bias: Bias) -> bool:
    """Return whether a bias is significant, also for other raters as far as that is known, and large enough to matter."""
    if not bias.logit.n or not bias.logit.excludes_zero:
        return False
    holds_for_others = math.isnan(bias.rater_se) or abs(bias.logit.value) > Z95 * bias.rater_se
    return holds_for_others and favoured(bias) >= SWAY

"""What a comparison of policies says, in sentences: the same in a terminal and in the report."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import NormalDist

from palate.agreement.estimates import Estimate
from palate.agreement.paired_rates import PairedRate
from palate.evaluation.comparison_figures import PolicyComparison, VerdictSource
from palate.evaluation.report.formatting import counted, number, percent, thousands

NO_HEADLINE = (
    "No source may stand alone here, so there is no headline. Ask people, or give a judge with a report card that no policy was trained "
    "against."
)

ASSUMPTION = (
    "At equal length: the rate that a logistic model gives for answers of one length, with one slope for all pairs of policies (Dubois et "
    "al. 2024). It assumes that length acts on every pair alike, and takes out what longer answers say as well."
)


def headline(comparison: PolicyComparison) -> str:
    """Return one sentence: who wins by the source that may lead, and whether the interval says so."""
    source = comparison.leading
    if source is None:
        return NO_HEADLINE
    first = source.rates[0].match.dimension
    if not source.strengths:
        return verdict(source.rates[0], source)
    order = [one.policy for one in source.strengths if one.dimension == first]
    met = [one for one in source.rates if one.match.dimension == first and {one.match.policy, one.match.other} == set(order[:2])]
    return " ".join([f"In the order of their strength by {source.name}: {', '.join(order)}.", *(verdict(one, source) for one in met)])


def verdict(rate: PairedRate, source: VerdictSource) -> str:
    """Return what a source says about two policies."""
    match = rate.match
    shown, name = match.rate, source.name
    if match.joined is not None and match.saved is not None and match.saved > 0:
        shown, name = match.joined, f"{source.name} with {match.judge}"
    text = f"{match.policy} wins {percent(shown.value, 1)} against {match.other} by {name}"
    if math.isnan(shown.low):
        return f"{text}; {rate.note}."
    word = "" if shown.low > 0.5 or shown.high < 0.5 else ", which does not show a difference"
    return f"{text} ({interval(shown)}, {counted(rate.prompts, 'prompt')}){word}."


def notes(comparison: PolicyComparison) -> Iterator[str]:
    """Yield what a reader must know beside the figures."""
    answered = ", ".join(f"{one.name} {one.answered}" for one in comparison.policies)
    yield f"{counted(comparison.prompts, 'prompt', 'counts', 'count')}, which all policies answered (answered prompts: {answered})."
    for one in comparison.policies:
        for reason, count in one.left_out.items():
            yield f"{counted(count, 'row')} of {one.name} {'is' if count == 1 else 'are'} left out: {reason}."
        if one.cut:
            yield f"{percent(one.cut, 1)} of the answers of {one.name} were cut off at the token limit."
        if one.empty:
            yield f"{one.empty} answers of {one.name} are empty. Raters are not asked about them: an empty answer loses to any other."
    for source in comparison.sources:
        for caveat in source.caveats:
            yield f"{source.name}: {caveat}."
        if source.unanswered:
            lacking = "pairs lack a score of an answer" if source.kind == "reward" else "questions have no answer"
            yield f"{source.name}: {source.unanswered} of {source.asked} {lacking}."
        for note in dict.fromkeys(f"{one.match.policy} against {one.match.other}: {one.note}" for one in source.rates if one.note):
            yield f"{source.name}, {note}."
        if not source.rates:
            yield f"{source.name} compared no answers."
        yield from exceptions(source, comparison.split_by)
    yield from power(comparison)
    if any(one.controlled for source in comparison.sources for one in source.rates):
        yield ASSUMPTION


def exceptions(source: VerdictSource, column: str) -> Iterator[str]:
    """Yield the groups of prompts on which a policy loses that wins over all. All groups together have a chance of 5 % of a false one."""
    limit = NormalDist().inv_cdf(1 - 0.05 / max(1, len(source.by_group)))
    for one in source.by_group:
        rate = one.rate.match.rate
        if rate.se > 0 and (0.5 - rate.value) / rate.se > limit:
            where = f"{column} is {one.group}" if one.group else f"a prompt has no {column}"
            yield (
                f"{source.name}: {one.rate.match.policy} loses to {one.rate.match.other} where {where}: it wins {percent(rate.value, 1)} "
                f"({interval(rate)}, {one.rate.prompts} prompts)."
            )


def power(comparison: PolicyComparison) -> Iterator[str]:
    """Yield how many prompts would show the difference that was asked about, by the first source with win rates."""
    source = comparison.leading or next((one for one in comparison.sources if one.rates), None)
    if source is None:
        return
    needed, visible = ([value for one in source.rates if (value := of(one)) is not None] for of in (_needed, _visible))
    if len(needed) < len(source.rates):
        yield f"By {source.name} it is not known how many prompts would show a difference, because verdicts do not vary between prompts."
    if needed:
        yield (
            f"By {source.name}, {min(one.prompts for one in source.rates)} prompts show a win rate of {percent(0.5 + max(visible), 1)} or "
            f"more in four cases of five. A win rate of {percent(0.5 + comparison.difference, 1)} takes {thousands(int(max(needed)))}."
        )


def _needed(rate: PairedRate) -> float | None:
    return rate.needed


def _visible(rate: PairedRate) -> float | None:
    return rate.visible


def interval(estimate: Estimate) -> str:
    """Return the interval of a share; "not known" where there is none."""
    return "not known" if math.isnan(estimate.low) else f"{number(100 * estimate.low, 1)} to {number(100 * estimate.high, 1)} %"

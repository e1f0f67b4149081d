"""Figures of each cluster of prompts: how many were judged, how raters agree there, and what the reward model gets wrong."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from palate.agreement.estimates import Estimate, clustered_share, share, wilson
from palate.core import Preference
from palate.evaluation.coverage.prompt_reach import UNUSUAL

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]

Reach = Literal["hole", "thin", "partly", "reached"]

FEW_PROMPTS = 30
"""With fewer judged prompts a cluster that is short of them is a hole."""
SHORT = 0.5
"""A cluster is short of judged prompts if its share of them is below half of its share of the deployment, beyond the intervals."""

ALL = "all prompts"
NOT_KNOWN = Estimate(math.nan, math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class ClusterCoverage:
    """A cluster of prompts.

    Attributes:
        name: its most telling words.
        prompts: prompts of the deployment in it.
        share: their share of the deployment.
        judged_prompts: prompts in it that were judged.
        judgments: single votes on these; a preference without votes counts as one.
        agreement: share of two votes on one question that agree; `n` is 0 where no question has two.
        unlike: share of its prompts that are unlike every judged prompt; `n` is 0 where that is not known.
        error: share of held-out votes that the reward model is not with; `n` is 0 without a model or without held-out preferences.
        expected_error: the share that the model itself expects to be wrong on these pairs; NaN as above.
        spread: mean standard deviation of P(first wins) among the members of an ensemble, on the same pairs; NaN with one model.
        reach: whether the judgments reach it.
        examples: prompts of the deployment in it, the ones farthest from judged prompts first.
    """

    name: str
    prompts: int
    share: Estimate
    judged_prompts: int
    judgments: int
    agreement: Estimate
    unlike: Estimate
    error: Estimate
    expected_error: float
    spread: float
    reach: Reach
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class RewardErrors:
    """What a reward model does on p held-out pairs.

    Attributes:
        wrong: (p,) share of the votes that it is not with.
        expected: (p,) the smaller one of P(chosen wins) and P(rejected wins).
        spread: (p,) standard deviation of P(chosen wins) among members; NaN with one model.
        prompt: (p,) the number of the pair's prompt.
    """

    wrong: Floats
    expected: Floats
    spread: Floats
    prompt: Ints


@dataclass(frozen=True, eq=False)
class JudgedPreferences:
    """Preferences by the prompts that they are about.

    Attributes:
        preferences: the preferences.
        prompt: (p,) the number of each preference's prompt.
    """

    preferences: tuple[Preference, ...]
    prompt: Ints


def reach_of(prompts: int, of_prompts: int, judged: int, of_judged: int, unlike: Estimate = NOT_KNOWN) -> Reach:
    """Return whether judgments reach a cluster with `prompts` of the deployment's prompts and `judged` of the judged ones.

    `unlike` is the share of its prompts that are unlike every judged one.
    """
    if of_judged:
        _, high = wilson(judged, of_judged)
        low, _ = wilson(prompts, of_prompts)
        if high >= SHORT * low:
            return "partly" if is_warning(unlike) else "reached"
    return "hole" if judged < FEW_PROMPTS else "thin"


def agreement_of(preferences: Sequence[Preference], prompt: Ints) -> Estimate:
    """Return the share of two votes on one question that agree, the mean over questions; its interval counts prompts."""
    shares, where = [], []
    for one, number in zip(preferences, prompt, strict=True):
        counts = Counter(vote for _, vote in one.votes)
        votes = sum(counts.values())
        if votes > 1:
            shares.append(sum(count * (count - 1) for count in counts.values()) / (votes * (votes - 1)))
            where.append(number)
    return clustered_share(np.array(shares), np.array(where)) if shares else NOT_KNOWN


def cluster_coverage(
    name: str,
    chosen: Flags,
    judged: JudgedPreferences,
    is_judged_here: Flags,
    unlike: Flags | None,
    errors: RewardErrors | None,
    describe: Callable[[Flags], tuple[str, ...]],
) -> ClusterCoverage:
    """Return the figures of a cluster.

    Args:
        name: its name.
        chosen: (n,) which prompts of the deployment are in it.
        judged: the preferences.
        is_judged_here: (m,) which judged prompts are in it.
        unlike: (n,) which prompts of the deployment are unlike the judged ones; None where that is not known.
        errors: what the reward model does on held-out pairs, whose prompts are numbered like the judged ones.
        describe: the examples of a cluster, from `chosen`.
    """
    unlike_here = share(float(unlike[chosen].sum()), int(chosen.sum())) if unlike is not None and chosen.any() else NOT_KNOWN
    here = is_judged_here[judged.prompt] if len(judged.prompt) else np.zeros(0, dtype=bool)
    preferences = [one for one, flag in zip(judged.preferences, here, strict=True) if flag]
    counts = int(chosen.sum()), int(is_judged_here.sum())
    about = None if errors is None else is_judged_here[errors.prompt]
    has_errors = errors is not None and about is not None and bool(about.any())
    return ClusterCoverage(
        name=name,
        prompts=counts[0],
        share=share(counts[0], len(chosen)),
        judged_prompts=counts[1],
        judgments=sum(max(len(one.votes), 1) for one in preferences),
        agreement=agreement_of(preferences, judged.prompt[here]),
        unlike=unlike_here,
        error=clustered_share(errors.wrong[about], errors.prompt[about]) if errors is not None and has_errors else NOT_KNOWN,
        expected_error=float(errors.expected[about].mean()) if errors is not None and has_errors else math.nan,
        spread=float(errors.spread[about].mean()) if errors is not None and has_errors else math.nan,
        reach=reach_of(counts[0], len(chosen), counts[1], len(is_judged_here), unlike_here),
        examples=describe(chosen),
    )


def is_warning(unlike: Estimate) -> bool:
    """Whether more than twice as many prompts as expected are unlike the judged ones, by the interval."""
    return unlike.n > 0 and unlike.low > 2 * UNUSUAL

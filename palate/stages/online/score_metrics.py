"""Means and errors of what the completions of an iteration were given. Completions of one prompt are alike, so prompts are the units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from statistics import fmean

import torch
from torch import Tensor

from palate.core import DataError, Gold
from palate.data.data_sources import metric_word
from palate.evaluation.evals import is_refusal
from palate.evaluation.intervals import Estimate, clustered_mean
from palate.rewards.composition import Scores
from palate.rewards.pairwise_judge import AGAINST_START
from palate.stages.online.rollouts import Rollouts, Scored
from palate.training.guards import repetition


def score_metrics(scored: Scored) -> dict[str, float]:
    """Return mean, standard error and standard deviation of the scores, and mean and standard error of the rewards.

    Failed scores (NaN) are left out. A figure without a value is not there: nothing is known of an error with one prompt. Where the learner
    has recomputed the log-probabilities, their distance from the sampler's is there too, nats per token. Where prompts come from several
    sources, so is the mean reward of each.
    """
    scores = scored.scores[~scored.scores.isnan()]
    spread = {"score/sd": float(scores.std())} if len(scores) > 1 else {}
    return {
        **mean_metrics("score", scored.scores.tolist(), scored.rollouts),
        **spread,
        **mean_metrics("reward", scored.rewards.tolist(), scored.rollouts),
        **rewards_by_source(scored.rollouts, scored.rewards),
        **_engine_gap(scored),
    }


def rewards_by_source(rollouts: Rollouts, rewards: Tensor) -> dict[str, float]:
    """Return the mean of the rewards (b,) of each source's completions, without failed ones (NaN); {} where no prompt names its source."""
    names = [prompt.source_name for prompt, group in zip(rollouts.prompts, rollouts.groups, strict=True) for _ in group]
    of_each: dict[str, list[float]] = {}
    for name, reward in zip(names, rewards.tolist(), strict=True):
        if name and not math.isnan(reward):
            of_each.setdefault(name, []).append(reward)
    return {f"reward_of_{metric_word(name)}/mean": fmean(values) for name, values in of_each.items()}


def _engine_gap(scored: Scored) -> dict[str, float]:
    if scored.learner_logps is None:
        return {}
    gaps = (scored.learner_logps - scored.rollouts.logps).abs()
    return {"engine_gap/mean": float(gaps.nanmean()), "engine_gap/max": float(gaps.nan_to_num().max())}


def win_rate_metrics(scores: Scores, rollouts: Rollouts) -> dict[str, float]:
    """Return mean and standard error of how likely completions beat the start's answers, where a part of the reward compares with these."""
    columns = [column for name, column in scores.table.items() if name.endswith(f"/{AGAINST_START}")]
    return mean_metrics("win_rate", torch.stack(columns).nanmean(0).tolist(), rollouts) if columns else {}


def gold_metrics(gold: Gold, rollouts: Rollouts) -> dict[str, float]:
    """Return mean and standard error of what a function that knows the truth gives for the completions, and the share it failed on.

    A failure costs no more than its own completion, because nothing is learned from gold.
    """
    scores: list[float] = []
    for prompt, group in zip(rollouts.prompts, rollouts.groups, strict=True):
        for completion in group:
            try:
                values = gold(prompt.text, completion.text, **prompt.fields)
            except DataError:
                scores.append(math.nan)
            else:
                scores.append(sum(values.values()) / len(values))
    failed = sum(map(math.isnan, scores)) / len(scores)
    return {**mean_metrics("gold", scores, rollouts), **({"unscored_gold/share": failed} if failed else {})}


def written_metrics(rollouts: Rollouts) -> dict[str, float]:
    """Return what can be seen of completions without a reward: length, ends, repetition and refusals, and how old their weights are."""
    return {
        **mean_metrics("length", rollouts.lengths.tolist(), rollouts),
        "staleness/mean": float(rollouts.age),
        "eos/share": float(rollouts.ended.float().mean()),
        "repetition/mean": repetition([completion.ids for completion in rollouts.completions]),
        **_refusals(rollouts),
    }


def _refusals(rollouts: Rollouts) -> dict[str, float]:
    """Return the share of completions that refuse, as evals count refusals by the first words, and its standard error."""
    refused = [float(is_refusal(completion.text)) for completion in rollouts.completions]
    return {"refusals/share": fmean(refused), **_error("refusals", _clustered(refused, rollouts))}


def mean_metrics(name: str, values: Sequence[float], rollouts: Rollouts) -> dict[str, float]:
    """Return the mean of one value per completion, and its standard error with prompts as the units. NaN is left out.

    The error is not there where it is not known: with one prompt, or where no prompt's mean differs from another's.
    """
    if all(math.isnan(value) for value in values):
        return {}
    estimate = _clustered(values, rollouts)
    return {f"{name}/mean": estimate.value, **_error(name, estimate)}


def _clustered(values: Sequence[float], rollouts: Rollouts) -> Estimate:
    ends = [0, *accumulate(len(group) for group in rollouts.groups)]
    return clustered_mean([values[start:end] for start, end in pairwise(ends)])


def _error(name: str, estimate: Estimate) -> dict[str, float]:
    return {} if math.isnan(estimate.se) else {f"{name}/se": estimate.se}

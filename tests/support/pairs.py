"""Scores of pairs and rankings for tests of reward objectives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from palate.objectives.bradley_terry import PairScores, PromptPairs
from palate.objectives.rankings import RankedScores
from palate.objectives.reduce import Sums


def pair_scores(
    chosen: Sequence[float] | Tensor,
    rejected: Sequence[float] | Tensor,
    *,
    probability: Sequence[float] | None = None,
    margin: Sequence[float] | None = None,
    weight: Sequence[float] | None = None,
) -> PairScores:
    """Pairs with certain labels, no margins and weights of 1 unless said otherwise."""
    chosen = torch.as_tensor(chosen)
    return PairScores(
        chosen=chosen,
        rejected=torch.as_tensor(rejected),
        probability=torch.ones(len(chosen)) if probability is None else torch.tensor(probability),
        margin=torch.zeros(len(chosen)) if margin is None else torch.tensor(margin),
        weight=torch.ones(len(chosen)) if weight is None else torch.tensor(weight),
    )


def ranked_scores(rankings: Sequence[Sequence[float]], weights: Sequence[float] | None = None) -> RankedScores:
    """Rankings, best first; their scores want gradients."""
    group = torch.tensor([number for number, ranking in enumerate(rankings) for _ in ranking])
    scores = torch.tensor([score for ranking in rankings for score in ranking], requires_grad=True)
    weight = torch.ones(len(rankings)) if weights is None else torch.tensor(weights)
    return RankedScores(scores, group, weight[group])


def all_pairs(rankings: Sequence[Sequence[float]]) -> PromptPairs:
    """Every pair of each ranking, the better one chosen."""
    found = [(k, a, b) for k, ranking in enumerate(rankings) for i, a in enumerate(ranking) for b in ranking[i + 1 :]]
    prompt, chosen, rejected = zip(*found, strict=True)
    return PromptPairs(pair_scores(chosen, rejected), torch.tensor(prompt))


def metric(sums: Sums, name: str) -> Tensor:
    """A metric, divided."""
    value, count = sums.metrics[name]
    return value / count

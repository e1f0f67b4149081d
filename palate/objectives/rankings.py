"""Reward models from rankings of several completions of one prompt: Plackett-Luce, and the choice of the best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from palate.objectives.reduce import Sums, check_shapes, masked, weighted_ratio


@dataclass(frozen=True)
class RankedScores:
    """Scores of strict rankings, one after another, all (n,). Write a ranking with ties as several strict ones that share its weight.

    Attributes:
        scores: best first within each group.
        group: long, number of the ranking that each score belongs to; numbers are arbitrary and groups may interleave.
        weight: >= 0, the weight of the ranking; the same for all scores of a group.
    """

    scores: Tensor
    group: Tensor
    weight: Tensor

    def __post_init__(self) -> None:
        """Check the shapes."""
        check_shapes("RankedScores", vars(self))


@dataclass(frozen=True)
class _Table:
    """Rankings as rows: scores (g, k) best first, 0 where `valid` (g, k) is False; `weight` (g,), 0 below 2 items."""

    scores: Tensor
    valid: Tensor
    weight: Tensor


def _table(inputs: RankedScores) -> _Table:
    """Return the rankings as rows; a stable sort keeps the order within each group."""
    group, order = torch.sort(inputs.group, stable=True)
    _, row, sizes = torch.unique_consecutive(group, return_inverse=True, return_counts=True)
    starts = sizes.cumsum(0) - sizes
    column = torch.arange(len(group), device=group.device) - starts[row]
    width = int(sizes.max()) if len(sizes) else 0
    scores = inputs.scores.new_zeros(len(sizes), width).index_put((row, column), inputs.scores[order])
    valid = torch.arange(width, device=group.device) < sizes[:, None]
    weight = torch.where(sizes > 1, inputs.weight.detach()[order][starts], 0)
    return _Table(scores=scores, valid=valid, weight=weight)


def _ranking_sums(table: _Table, losses: Tensor) -> Sums:
    """Return sums over rankings of their losses (g,), and the share of pairs in the right order (mean within each ranking first)."""
    difference = table.scores[:, :, None] - table.scores[:, None, :]
    pairs = (table.valid[:, :, None] & table.valid[:, None, :]).triu(diagonal=1)  # the row's item ranks above the column's
    right = masked((1 + torch.sign(difference)) / 2, pairs).sum((1, 2)) / pairs.sum((1, 2)).clamp_min(1)
    metrics = {"nll": weighted_ratio(losses, table.weight), "accuracy": weighted_ratio(right, table.weight)}
    return Sums(loss=(table.weight * losses).sum(), count=table.weight.sum(), metrics=metrics)


@dataclass(frozen=True, kw_only=True)
class PlackettLuce:
    """Negative log-likelihood of whole rankings, per `sum weight`.

    `-log P = sum_k [logsumexp_{j >= k} r_j - r_k]` with scores best first. Two items are Bradley-Terry. A ranking of one
    item has no information and is not counted.

    Source: Plackett 1975, Luce 1959; Zhu et al. 2023 for reward models.

    Metrics: `nll`, `accuracy` (pairs in the right order, equal scores one half, mean within each ranking first).
    """

    kind: Literal["plackett_luce"] = "plackett_luce"
    learns_from: ClassVar[Literal["rankings"]] = "rankings"

    def __call__(self, inputs: RankedScores) -> Sums:
        """Return sums over rankings; differentiable in the scores."""
        table = _table(inputs)
        k = table.scores.shape[1]
        # The candidates at step k: item k and all items ranked below it.
        candidates = table.valid[:, None, :] & torch.ones(k, k, dtype=torch.bool, device=table.scores.device).triu()
        rest = table.scores[:, None, :].expand(-1, k, -1).masked_fill(~candidates, -torch.inf).logsumexp(-1)
        return _ranking_sums(table, masked(rest - table.scores, table.valid).sum(1))


@dataclass(frozen=True, kw_only=True)
class PickBest:
    """Cross-entropy of the best completion among those of its prompt, per `sum weight`; the order of the others is not used.

    `logsumexp_j r_j - r_best`, the best comes first. Source: Ziegler et al. 2019 eq. 1 (best of four).

    Metrics: as `PlackettLuce`.
    """

    kind: Literal["pick_best"] = "pick_best"
    learns_from: ClassVar[Literal["rankings"]] = "rankings"

    def __call__(self, inputs: RankedScores) -> Sums:
        """Return sums over rankings; differentiable in the scores."""
        table = _table(inputs)
        normaliser = table.scores.masked_fill(~table.valid, -torch.inf).logsumexp(1)
        return _ranking_sums(table, normaliser - table.scores[:, :1].sum(1))

"""Reward models: Bradley-Terry on pairs, and rankings of several completions of one prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from palate.core import ConfigError
from palate.objectives.reduce import Ratio, Sums, check_shapes, masked, masked_ratio, weighted_ratio


@dataclass(frozen=True)
class PairScores:
    """Scores of pairs, all (p,).

    Attributes:
        chosen: score of the completion called chosen.
        rejected: score of the other one.
        probability: that chosen is the better one, 0 to 1; 1 is a plain judgment, 0.5 a tie.
        margin: by how much chosen should win, in score units; 0 for none.
        weight: >= 0, how much the pair counts.
    """

    chosen: Tensor
    rejected: Tensor
    probability: Tensor
    margin: Tensor
    weight: Tensor

    def __post_init__(self) -> None:
        """Checks the shapes."""
        check_shapes("PairScores", vars(self))


@dataclass(frozen=True)
class RankedScores:
    """Scores of rankings without ties, one after another.

    Attributes:
        scores: (n,) best first inside each group.
        group: (n,) long, number of the ranking (prompt) each score belongs to; any numbers, groups may interleave.
    """

    scores: Tensor
    group: Tensor

    def __post_init__(self) -> None:
        """Checks the shapes."""
        check_shapes("RankedScores", vars(self))


def preference_nll(difference: Tensor, probability: Tensor) -> Tensor:
    """Cross-entropy of each preference in nats, shape of `difference`, not averaged.

    `-p log sigma(d) - (1 - p) log sigma(-d)`, safe for any size of d. Gradient in d: `sigma(d) - p`.

    Source: Bradley and Terry 1952; Ouyang et al. 2022 eq. 1 for p = 1; Christiano et al. 2017 sec. 2.2.3 for soft labels.
    """
    return functional.binary_cross_entropy_with_logits(difference, probability, reduction="none")


def preference_accuracy(difference: Tensor, probability: Tensor, weight: Tensor) -> Ratio:
    """Weighted share of preferences whose sign is right.

    An exactly equal pair of scores counts one half; a preference with probability 0.5 has no right side and is not counted.
    """
    side = torch.sign(probability - 0.5)
    right = (1 + torch.sign(difference.detach()) * side) / 2
    return weighted_ratio(right, weight * side.abs())


@dataclass(frozen=True, kw_only=True)
class BradleyTerry:
    """Soft-label Bradley-Terry loss on pairs, per `sum weight`.

    `w [BCE(c - r - margin, p) + centering (c + r)^2]`. Only differences of scores are identified; `centering` (0.01 in
    Eisenstein et al. 2023 eq. 2) holds the scores around 0. It is the square of the pair's sum, not a sum of squares.
    The margin is subtracted (Touvron et al. 2023 eq. 2).

    Attributes:
        centering: weight of the squared sum of a pair's scores; 0 turns it off.

    Metrics: `nll` (without centering), `accuracy` (equal scores count one half, margins play no part), `margin` (c - r),
    `chosen_score`, `rejected_score`.
    """

    kind: Literal["bradley_terry"] = "bradley_terry"
    centering: float = 0.0

    def __post_init__(self) -> None:
        """Checks the setting."""
        if not self.centering >= 0:
            raise ConfigError(f"bradley_terry: centering must be >= 0, got {self.centering}; 0 turns it off, 0.01 is usual")

    def __call__(self, inputs: PairScores) -> Sums:
        """Sums over pairs; differentiable in both scores."""
        difference = inputs.chosen - inputs.rejected
        nll = preference_nll(difference - inputs.margin, inputs.probability)
        each = nll + self.centering * (inputs.chosen + inputs.rejected).square()
        weight = inputs.weight.detach()
        metrics = {
            "nll": weighted_ratio(nll, weight),
            "accuracy": preference_accuracy(difference, inputs.probability, weight),
            "margin": weighted_ratio(difference, weight),
            "chosen_score": weighted_ratio(inputs.chosen, weight),
            "rejected_score": weighted_ratio(inputs.rejected, weight),
        }
        return Sums(loss=(weight * each).sum(), count=weight.sum(), metrics=metrics)


@dataclass(frozen=True)
class _Table:
    """Rankings as rows: scores (g, k) best first, 0 where `valid` (g, k) is False; `counts` (g,) is True from 2 items on."""

    scores: Tensor
    valid: Tensor
    counts: Tensor


def _table(inputs: RankedScores) -> _Table:
    """The rankings of `inputs` side by side; a stable sort keeps the order inside each group."""
    group, order = torch.sort(inputs.group, stable=True)
    _, row, sizes = torch.unique_consecutive(group, return_inverse=True, return_counts=True)
    starts = sizes.cumsum(0) - sizes
    column = torch.arange(len(group), device=group.device) - starts[row]
    width = int(sizes.max()) if len(sizes) else 0
    scores = inputs.scores.new_zeros(len(sizes), width).index_put((row, column), inputs.scores[order])
    valid = torch.arange(width, device=group.device) < sizes[:, None]
    return _Table(scores=scores, valid=valid, counts=sizes > 1)


def _pairs(table: _Table) -> tuple[Tensor, Tensor]:
    """Score differences better minus worse (g, k, k), and where they are pairs of one ranking (row better than column)."""
    difference = table.scores[:, :, None] - table.scores[:, None, :]
    both = table.valid[:, :, None] & table.valid[:, None, :]
    return difference, both.triu(diagonal=1)


def _ranking_sums(table: _Table, losses: Tensor) -> Sums:
    """Sums over rankings of their losses (g,), with the share of pairs in the right order (mean inside each ranking first)."""
    difference, pairs = _pairs(table)
    right = masked((1 + torch.sign(difference)) / 2, pairs).sum((1, 2)) / pairs.sum((1, 2)).clamp_min(1)
    metrics = {"nll": masked_ratio(losses, table.counts), "accuracy": masked_ratio(right, table.counts)}
    return Sums(loss=masked(losses, table.counts).sum(), count=table.counts.sum(), metrics=metrics)


@dataclass(frozen=True, kw_only=True)
class PlackettLuce:
    """Negative log-likelihood of whole rankings, per ranking.

    `-log P = sum_k [logsumexp_{j >= k} r_j - r_k]` with scores best first. Two items are Bradley-Terry. A ranking of one
    item says nothing and is not counted.

    Source: Plackett 1975, Luce 1959; Zhu et al. 2023 for reward models.

    Metrics: `nll`, `accuracy` (pairs in the right order, equal scores one half, mean inside each ranking first).
    """

    kind: Literal["plackett_luce"] = "plackett_luce"

    def __call__(self, inputs: RankedScores) -> Sums:
        """Sums over rankings; differentiable in the scores."""
        table = _table(inputs)
        k = table.scores.shape[1]
        # Who is still in the race at step k: k itself and all ranked below it.
        racing = table.valid[:, None, :] & torch.ones(k, k, dtype=torch.bool, device=table.scores.device).triu()
        rest = table.scores[:, None, :].expand(-1, k, -1).masked_fill(~racing, -torch.inf).logsumexp(-1)
        return _ranking_sums(table, masked(rest - table.scores, table.valid).sum(1))


@dataclass(frozen=True, kw_only=True)
class AllPairs:
    """Bradley-Terry on all pairs of each ranking: mean over the pairs of a prompt first, then per prompt.

    Source: Ouyang et al. 2022 eq. 1. A flat mean over pairs is another loss: it lets prompts with many completions rule.

    Metrics: as `PlackettLuce`.
    """

    kind: Literal["all_pairs"] = "all_pairs"

    def __call__(self, inputs: RankedScores) -> Sums:
        """Sums over rankings; differentiable in the scores."""
        table = _table(inputs)
        difference, pairs = _pairs(table)
        nll = masked(preference_nll(difference, torch.ones_like(difference)), pairs).sum((1, 2))
        return _ranking_sums(table, nll / pairs.sum((1, 2)).clamp_min(1))


@dataclass(frozen=True, kw_only=True)
class PickBest:
    """Cross-entropy of the best completion among those of its prompt, per prompt; the order of the others plays no part.

    `logsumexp_j r_j - r_best`, the best standing first. Source: Ziegler et al. 2019 eq. 1 (best of four).

    Metrics: as `PlackettLuce`.
    """

    kind: Literal["pick_best"] = "pick_best"

    def __call__(self, inputs: RankedScores) -> Sums:
        """Sums over rankings; differentiable in the scores."""
        table = _table(inputs)
        everyone = table.scores.masked_fill(~table.valid, -torch.inf).logsumexp(1)
        return _ranking_sums(table, everyone - table.scores[:, :1].sum(1))


RankingObjective = PlackettLuce | AllPairs | PickBest
RewardObjective = BradleyTerry | RankingObjective

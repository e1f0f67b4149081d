"""Batches for reward models: from judged prompts to the inputs of each objective (pairs, judgments with raters, rankings)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from palate.config.settings import nearest
from palate.config.types import name_of_kind
from palate.core import ConfigError, DataError
from palate.distributed.sharing import microbatches
from palate.models.scalar import ScalarModel
from palate.objectives.bradley_terry import JudgedScores, PairScores
from palate.objectives.rankings import RankedScores
from palate.objectives.reduce import Sums
from palate.objectives.reward_objectives import LearnedNumbers, RewardObjective
from palate.text.pack import PackedBatch, pack
from palate.training.comparisons import JudgedPrompt, PairBatch, pair_batches
from palate.training.individual_judgments import Ranking, rankings_of, raters_of, single_judgments
from palate.training.source_losses import taken, with_sources


@dataclass(frozen=True)
class JudgedBatch:
    """A micro-batch of pairs, with the numbers (p,) of their `question` (prompt and dimension) and of their `rater`."""

    pairs: PairBatch
    question: Tensor
    rater: Tensor


@dataclass(frozen=True)
class RankingBatch:
    """A micro-batch of trees with strict rankings of their branches; tensors are (n,), best first inside each group."""

    trees: PackedBatch
    branch: Tensor
    dimension: Tensor
    group: Tensor
    weight: Tensor


RewardBatch = JudgedBatch | RankingBatch


def trees_of(batch: RewardBatch) -> PackedBatch:
    """Return the trees of a micro-batch, whose branches are scored."""
    return batch.trees if isinstance(batch, RankingBatch) else batch.pairs.trees


@dataclass(frozen=True)
class RewardBatches:
    """The data that a reward objective learns from.

    Attributes:
        objective: the loss.
        judged: the prompts that the objective can use.
        raters: number of judgments by rater; empty where single judgments are not used.
        unused: the reason for each thing left out.
    """

    objective: RewardObjective
    judged: Sequence[JudgedPrompt]
    raters: Mapping[str, int]
    unused: Sequence[str]

    @staticmethod
    def of(objective: RewardObjective, judged: Sequence[JudgedPrompt], rater_weights: Mapping[str, float]) -> RewardBatches:
        """Return what the objective uses: ranked prompts, single judgments (also when raters have weights), or conclusions.

        Raises:
            ConfigError: a weight names a rater without judgments.
            DataError: the objective needs raters, and some judgments name none.
        """
        raters: dict[str, int] = {}
        if objective.learns_from == "judgments" or rater_weights:
            counts = raters_of(single_judgments(judged, {}))
            for name in rater_weights:
                if name not in counts:
                    known = [rater for rater in counts if rater]
                    raise ConfigError(f"rater_weights: nobody called {name!r} judged anything. {nearest(name, known)}")
            if objective.learns_from == "judgments" and objective.learns_per_rater and "" in counts:
                raise DataError(
                    f"{name_of_kind(objective)} needs to know who judged, and {counts['']} of {sum(counts.values())} judgments "
                    "name no rater. Give "
                    "each row its `votes` and `raters` (lists of one length), or its `rater`"
                )
            judged = single_judgments(judged, rater_weights)
            raters = raters_of(judged)
        unused: list[str] = []
        if objective.learns_from == "rankings":
            for prompt in judged:
                missing = len({pair.dimension for pair in prompt.pairs}) - len(rankings_of(prompt))
                unused += ["not every two completions of the prompt were compared"] * missing
            judged = [prompt for prompt in judged if rankings_of(prompt)]
        return RewardBatches(objective, judged, raters, unused)

    def learned(self, lr: float) -> LearnedNumbers | None:
        """Return the numbers learned beside a model with learning rate `lr`, or None where there are none."""
        objective = self.objective
        if objective.learns_from != "judgments":
            return None
        count = len(self.raters) if objective.learns_per_rater else 1
        return LearnedNumbers(objective.raw_start, count, objective.lr / lr)

    def learned_figures(self, learned: LearnedNumbers | None) -> dict[str, object]:
        """Return the numbers learned beside the model, for the summary: one by its name, or one per rater by theirs."""
        objective = self.objective
        if learned is None or objective.learns_from != "judgments":
            return {}
        values = objective.natural(learned().detach()).tolist()
        if not objective.learns_per_rater:
            return {objective.learns: values[0]}
        rows = zip(self.raters.items(), values, strict=True)
        return {objective.learns: {name: {"value": value, "judgments": count} for (name, count), value in rows}}

    def batches(self, dimensions: tuple[str, ...], tokens_per_microbatch: int) -> Callable[[list[int]], Iterator[RewardBatch]]:
        """Return a function from prompt numbers to their micro-batches; `dimensions` orders the heads."""
        if self.objective.learns_from == "rankings":
            return self._ranking_batches(dimensions, tokens_per_microbatch)
        numbers = {name: k for k, name in enumerate(self.raters)}
        pairs = pair_batches(self.judged, dimensions, tokens_per_microbatch)

        def judged_batch(batch: PairBatch) -> JudgedBatch:
            numbered = [(k, pair) for k in batch.indices for pair in self.judged[k].pairs]
            question = [k * len(dimensions) + dimensions.index(pair.dimension) for k, pair in numbered]
            return JudgedBatch(batch, torch.tensor(question), torch.tensor([numbers[pair.rater] if numbers else 0 for _, pair in numbered]))

        return lambda indices: map(judged_batch, pairs(indices))

    def _ranking_batches(self, dimensions: tuple[str, ...], tokens_per_microbatch: int) -> Callable[[list[int]], Iterator[RankingBatch]]:
        rankings = [rankings_of(prompt) for prompt in self.judged]

        def batches(indices: list[int]) -> Iterator[RankingBatch]:
            parts = microbatches([self.judged[k].tree for k in indices], tokens_per_microbatch)
            chosen = [[indices[k] for k in part] for part in parts]
            return (
                _ranking_batch([self.judged[k] for k in part], [rankings[k] for k in part], dimensions, tokens_per_microbatch)
                for part in chosen
            )

        return batches

    def loss(self, model: ScalarModel, learned: LearnedNumbers | None, done: Callable[[], float]) -> Callable[[RewardBatch], Sums]:
        """Return a function from a micro-batch to the objective's sums; `done` gives the share of the steps that are done."""
        return partial(scored_loss, model, self.loss_of_scores(learned, done))

    def loss_of_scores(self, learned: LearnedNumbers | None, done: Callable[[], float]) -> Callable[[Tensor, RewardBatch], Sums]:
        """Return a function from the scores (b, h) of a micro-batch's completions, and the micro-batch, to the objective's sums."""
        objective = self.objective

        def whole(scores: Tensor, batch: RewardBatch) -> Sums:
            if objective.learns_from == "rankings":
                assert isinstance(batch, RankingBatch)
                return objective(RankedScores(scores[batch.branch, batch.dimension], batch.group, batch.weight))
            assert isinstance(batch, JudgedBatch)
            numbers = scores.new_empty(0) if learned is None else learned()
            pairs, items = pair_scores(scores, batch.pairs), _items(scores, batch.pairs)
            return objective.of_judged(JudgedScores(pairs, batch.question, batch.rater, items, numbers, done()))

        def loss(scores: Tensor, batch: RewardBatch) -> Sums:
            branch = batch.branch if isinstance(batch, RankingBatch) else batch.pairs.chosen
            return with_sources(whole(scores, batch), trees_of(batch), branch, lambda rows: whole(scores, taken(batch, rows)))

        return loss


def scored_loss(model: ScalarModel, of_scores: Callable[[Tensor, RewardBatch], Sums], batch: RewardBatch) -> Sums:
    """Score the completions of a micro-batch, and return the sums that `of_scores` gives for their scores."""
    return of_scores(model.scores(trees_of(batch)).float(), batch)


def pair_scores(scores: Tensor, batch: PairBatch) -> PairScores:
    """Return the scores of both sides of each pair, by the head of its dimension, from the scores (b, h) of all branches."""
    chosen, rejected = scores[batch.chosen, batch.dimension], scores[batch.rejected, batch.dimension]
    return PairScores(chosen, rejected, batch.probability, batch.margin, batch.weight)


def _items(scores: Tensor, batch: PairBatch) -> Tensor:
    """Return the score of every judged completion, once per dimension it was judged on."""
    cells = torch.cat([batch.chosen, batch.rejected]) * scores.shape[1] + batch.dimension.repeat(2)
    return scores.flatten()[cells.unique()]


def _ranking_batch(
    judged: Sequence[JudgedPrompt], rankings: Sequence[Sequence[Ranking]], dimensions: tuple[str, ...], limit: int
) -> RankingBatch:
    rows: list[tuple[int, int, int]] = []
    weights: list[float] = []
    start = group = 0
    for prompt, prompt_rankings in zip(judged, rankings, strict=True):
        for ranking in prompt_rankings:
            orders = ranking.orders()
            for order in orders:
                rows += [(start + branch, dimensions.index(ranking.dimension), group) for branch in order]
                weights += [ranking.weight / len(orders)] * len(order)
                group += 1
        start += len(prompt.tree.branches)
    branch, dimension, groups = torch.tensor(rows).T
    return RankingBatch(pack([prompt.tree for prompt in judged], limit), branch, dimension, groups, torch.tensor(weights))

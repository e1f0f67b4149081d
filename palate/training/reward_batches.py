"""From judged prompts to what each reward objective takes: scored pairs, judgments with their raters, or rankings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from palate.config.settings import nearest
from palate.core import ConfigError, DataError
from palate.models.scalar import ScalarModel
from palate.objectives.bradley_terry import AllPairs, BradleyTerry, PairScores, PromptPairs
from palate.objectives.crowd import CrowdBT, CrowdPairs
from palate.objectives.rankings import RankedScores
from palate.objectives.reduce import Sums
from palate.objectives.reward_objectives import JudgmentObjective, LearnedNumbers, RankingObjective, RewardObjective
from palate.objectives.ties import Davidson, RaoKupper, TiePairs
from palate.text.pack import PackedBatch, microbatches, pack
from palate.training.comparisons import JudgedPrompt, PairBatch, pair_batches
from palate.training.individual_judgments import Ranking, rankings_of, raters_of, single_judgments


@dataclass(frozen=True)
class JudgedBatch:
    """A micro-batch of pairs; (p,) long: `question`, the prompt and dimension each belongs to, and `rater`, by their number."""

    pairs: PairBatch
    question: Tensor
    rater: Tensor


@dataclass(frozen=True)
class RankingBatch:
    """A micro-batch of trees with strict rankings of their branches, all (n,), best first inside each group."""

    trees: PackedBatch
    branch: Tensor
    dimension: Tensor
    group: Tensor
    weight: Tensor


RewardBatch = JudgedBatch | RankingBatch


@dataclass(frozen=True)
class RewardBatches:
    """What an objective learns from.

    Attributes:
        objective: the loss.
        judged: the prompts that say something to it.
        raters: who judged, and how often; empty where single judgments are not looked at.
        unused: reasons of what was left out.
    """

    objective: RewardObjective
    judged: Sequence[JudgedPrompt]
    raters: Mapping[str, int]
    unused: Sequence[str]

    @staticmethod
    def of(objective: RewardObjective, judged: Sequence[JudgedPrompt], rater_weights: Mapping[str, float]) -> RewardBatches:
        """Conclusions; single judgments where the objective or weights of raters ask for them; only ranked prompts for rankings.

        Raises:
            ConfigError: a weight of a rater who judged nothing.
            DataError: raters are asked for and the data names none.
        """
        raters: dict[str, int] = {}
        if isinstance(objective, JudgmentObjective) or rater_weights:
            known = raters_of(single_judgments(judged, {}))
            for name in rater_weights:
                if name not in known:
                    raise ConfigError(f"rater_weights: nobody called {name!r} judged anything. {nearest(name, [k for k in known if k])}")
            if isinstance(objective, CrowdBT) and "" in known:
                raise DataError(
                    f"crowd_bt needs to know who judged, and {known['']} of {sum(known.values())} judgments name no rater: give each row "
                    "its `votes` and `raters` (lists of one length), or its `rater`"
                )
            judged = single_judgments(judged, rater_weights)
            raters = raters_of(judged)
        unused: list[str] = []
        if isinstance(objective, RankingObjective):
            for one in judged:
                lacking = len({pair.dimension for pair in one.pairs}) - len(rankings_of(one))
                unused += ["not every two completions of the prompt were compared"] * lacking
            judged = [one for one in judged if rankings_of(one)]
        return RewardBatches(objective, judged, raters, unused)

    def learned(self, lr: float) -> LearnedNumbers | None:
        """The numbers learned beside a model that moves at the rate `lr`; None where there are none."""
        if not isinstance(self.objective, JudgmentObjective):
            return None
        count = len(self.raters) if isinstance(self.objective, CrowdBT) else 1
        return LearnedNumbers(self.objective.raw_start, count, self.objective.lr / lr)

    def told(self, learned: LearnedNumbers | None) -> dict[str, object]:
        """The numbers learned beside the model, for the summary: one by its name, or one a rater by theirs."""
        if learned is None or not isinstance(self.objective, JudgmentObjective):
            return {}
        values = self.objective.natural(learned().detach()).tolist()
        if not isinstance(self.objective, CrowdBT):
            return {self.objective.learns: values[0]}
        rows = zip(self.raters.items(), values, strict=True)
        return {self.objective.learns: {name: {"value": value, "judgments": count} for (name, count), value in rows}}

    def batches(self, dimensions: tuple[str, ...], tokens_per_microbatch: int) -> Callable[[list[int]], Iterator[RewardBatch]]:
        """A function from prompt numbers to their micro-batches; `dimensions` orders the heads."""
        if isinstance(self.objective, RankingObjective):
            return self._ranking_batches(dimensions, tokens_per_microbatch)
        numbers = {name: k for k, name in enumerate(self.raters)}
        pairs = pair_batches(self.judged, dimensions, tokens_per_microbatch)

        def judged_batch(batch: PairBatch) -> JudgedBatch:
            of = [(k, pair) for k in batch.indices for pair in self.judged[k].pairs]
            question = [k * len(dimensions) + dimensions.index(pair.dimension) for k, pair in of]
            return JudgedBatch(batch, torch.tensor(question), torch.tensor([numbers[pair.rater] if numbers else 0 for _, pair in of]))

        return lambda indices: map(judged_batch, pairs(indices))

    def _ranking_batches(self, dimensions: tuple[str, ...], tokens_per_microbatch: int) -> Callable[[list[int]], Iterator[RankingBatch]]:
        rankings = [rankings_of(one) for one in self.judged]

        def batches(indices: list[int]) -> Iterator[RankingBatch]:
            parts = microbatches([self.judged[k].tree for k in indices], tokens_per_microbatch)
            chosen = [[indices[k] for k in part] for part in parts]
            return (_ranking_batch([self.judged[k] for k in part], [rankings[k] for k in part], dimensions) for part in chosen)

        return batches

    def loss(self, model: ScalarModel, learned: LearnedNumbers | None, done: Callable[[], float]) -> Callable[[RewardBatch], Sums]:
        """A function from a micro-batch to the objective's sums; `done` tells the share of the steps that are done."""
        objective = self.objective

        def loss(batch: RewardBatch) -> Sums:
            if isinstance(objective, RankingObjective):
                assert isinstance(batch, RankingBatch)
                scores = model.scores(batch.trees).float()[batch.branch, batch.dimension]
                return objective(RankedScores(scores, batch.group, batch.weight))
            assert isinstance(batch, JudgedBatch)
            scores = model.scores(batch.pairs.trees).float()
            pairs = pair_scores(scores, batch.pairs)
            numbers = scores.new_empty(0) if learned is None else learned()
            match objective:
                case BradleyTerry():
                    return objective(pairs)
                case AllPairs():
                    return objective(PromptPairs(pairs, batch.question))
                case CrowdBT():
                    reliability = (numbers.detach() if done() < objective.held else numbers)[batch.rater]
                    return objective(CrowdPairs(pairs, reliability, _items(scores, batch.pairs)))
                case RaoKupper() | Davidson():
                    return objective(TiePairs(pairs, numbers))

        return loss


def pair_scores(scores: Tensor, batch: PairBatch) -> PairScores:
    """Of the scores (b, h) of a batch's branches those of both sides of each pair, by the head of its dimension."""
    chosen, rejected = scores[batch.chosen, batch.dimension], scores[batch.rejected, batch.dimension]
    return PairScores(chosen, rejected, batch.probability, batch.margin, batch.weight)


def _items(scores: Tensor, batch: PairBatch) -> Tensor:
    """The score of every completion that was judged, once for each dimension it was judged on."""
    cells = torch.cat([batch.chosen, batch.rejected]) * scores.shape[1] + batch.dimension.repeat(2)
    return scores.flatten()[cells.unique()]


def _ranking_batch(judged: Sequence[JudgedPrompt], rankings: Sequence[Sequence[Ranking]], dimensions: tuple[str, ...]) -> RankingBatch:
    rows: list[tuple[int, int, int]] = []
    weights: list[float] = []
    start = group = 0
    for one, own in zip(judged, rankings, strict=True):
        for ranking in own:
            orders = ranking.orders()
            for order in orders:
                rows += [(start + branch, dimensions.index(ranking.dimension), group) for branch in order]
                weights += [ranking.weight / len(orders)] * len(order)
                group += 1
        start += len(one.tree.branches)
    branch, dimension, groups = torch.tensor(rows).T
    return RankingBatch(pack([one.tree for one in judged]), branch, dimension, groups, torch.tensor(weights))

"""A head that learns length beside each head that learns quality, so that the latter need not: ODIN. It is dropped after training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import Parameter, functional

from palate.core import ConfigError
from palate.distributed.sharing import shared
from palate.models.heads import head_of, keep_first_heads
from palate.models.likelihood import Likelihood
from palate.models.scalar import ScalarModel
from palate.objectives.length import length_correlation
from palate.objectives.reduce import Sums
from palate.text.pack import PackedBatch
from palate.training.reward_batches import RewardBatch, trees_of

OfScores = Callable[[Tensor, RewardBatch], Sums]
"""A loss of the scores (b, h) of a micro-batch's completions."""


@dataclass(frozen=True, kw_only=True)
class LengthHead:
    """Learn length with a second head per dimension, which is dropped after training (ODIN).

    The judgments are explained by the sum of both heads. Over the completions of a step, with their lengths in tokens,

        loss + decorrelation mean_h (|corr(quality, length)| - corr(length head, length)) + orthogonality mean_h |cos(w_quality, w_length)|

    Source: Chen et al. 2024 (ODIN), there with one head of each kind. Deviation: the cosine of the heads' weights in place of their
    product, so that their sizes do not matter.

    Attributes:
        decorrelation: the price of a quality score that goes with length, and of a length head that does not.
        orthogonality: the price of weights of the two heads that point in one direction.
    """

    decorrelation: float = 1.0
    orthogonality: float = 1.0

    def __post_init__(self) -> None:
        """Check the settings."""
        for name, value in vars(self).items():
            if not 0 <= value < math.inf:
                raise ConfigError(f"length_head: {name} must be >= 0 and finite, got {value}; 1 is usual")


@dataclass(frozen=True)
class LengthBatch:
    """A micro-batch, with what the whole step says about it.

    Attributes:
        batch: the micro-batch.
        slopes: (b, 2 h) the derivative of the penalty on correlations in each score.
        correlations: (2 h,) correlation of each head's scores with length over the step: those of quality first.
        count: what the loss of the step is divided by.
    """

    batch: RewardBatch
    slopes: Tensor
    correlations: Tensor
    count: float


def with_length(dimensions: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the heads in training: the dimensions, then a length head for each."""
    return (*dimensions, *(f"{name}-length" for name in dimensions))


@dataclass(frozen=True)
class LengthPenalty:
    """The loss of a model with length heads.

    Attributes:
        settings: the prices.
        model: the model that learns.
        of_scores: the loss of the judgments.
    """

    settings: LengthHead
    model: ScalarModel
    of_scores: OfScores

    def batches(self, batches: Callable[[list[int]], Iterator[RewardBatch]]) -> Callable[[list[int]], Iterator[LengthBatch]]:
        """Return a function from the prompts of a step to its micro-batches. All are scored first, because a correlation needs them all."""

        def measured(numbers: list[int]) -> Iterator[LengthBatch]:
            parts = list(batches(numbers))
            with torch.no_grad():
                tables = shared(parts, lambda part: self.model.scores(trees_of(part)).float())
            lengths = torch.cat([_lengths(trees_of(part)) for part in parts])
            correlations, slopes = length_correlation(torch.cat(tables), lengths)
            quality, length = correlations.chunk(2)
            prices = torch.cat([quality.sign(), -torch.ones_like(length)]) / len(quality)
            count = sum(float(self.of_scores(_joined(table), part).count) for table, part in zip(tables, parts, strict=True))
            each = (prices * slopes).split([len(table) for table in tables])
            return (LengthBatch(part, own, correlations, count) for part, own in zip(parts, each, strict=True))

        return measured

    def __call__(self, batch: LengthBatch) -> Sums:
        """Return the sums of a micro-batch; divided by the count of the step they give the loss above."""
        scores = self.model.scores(trees_of(batch.batch)).float()
        sums = self.of_scores(_joined(scores), batch.batch)
        of_quality, of_length = batch.correlations.chunk(2)
        quality, length = of_quality.abs().mean(), of_length.mean()
        gradient = batch.count * (batch.slopes * (scores - scores.detach())).sum()  # its value is 0
        loss = sums.loss + self.settings.decorrelation * (gradient + sums.count * (quality - length))
        loss = loss + self.settings.orthogonality * sums.count * self._cosine()
        metrics = {"quality_by_length": (quality * sums.count, sums.count), "length_by_length": (length * sums.count, sums.count)}
        return replace(sums, loss=loss, metrics={**sums.metrics, **metrics})

    def _cosine(self) -> Tensor:
        """Return the mean size of the cosine between the weights of a dimension's two heads (0-d, differentiable), on the CPU."""
        quality, length = head_of(self.model.module).weight.float().chunk(2)
        return functional.cosine_similarity(quality, length).abs().mean().cpu()


def without_length(model: ScalarModel) -> ScalarModel:
    """Return the model with its length heads dropped; it must not be used any more itself."""
    names = model.heads[: len(model.heads) // 2]
    keep_first_heads(model.module, names)
    if isinstance(model.likelihood, Likelihood):
        model.likelihood.raw = Parameter(model.likelihood.raw.detach()[: len(names)].clone())
    return ScalarModel(model.module, model.tokenizer, model.path)


def _joined(scores: Tensor) -> Tensor:
    """Return what explains the judgments (b, h): the sum of both heads of each dimension, from the scores (b, 2 h)."""
    quality, length = scores.chunk(2, 1)
    return quality + length


def _lengths(trees: PackedBatch) -> Tensor:
    """Return the tokens (b,) of each branch."""
    return torch.tensor([len(branch.ids) for tree in trees.trees for branch in tree.branches])

"""Sums and counts: what every objective returns, and the one place that divides.

The learner computes a batch in micro-batches. If each objective returned a mean, the mean of means would depend on how the batch was
cut. So objectives return a sum and a count to divide it by, and the learner, which holds the whole batch, divides once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

Ratio = tuple[Tensor, Tensor]
"""A sum and the count it is divided by, both 0-d and without gradient."""

MAXIMUM = "_max"
"""Ending of the names of metrics whose micro-batches are combined by their maximum instead of their sum."""


@dataclass(frozen=True)
class Sums:
    """A loss and metrics before division.

    Attributes:
        loss: 0-d, sum over units (tokens, pairs, groups) with their weights applied; differentiable.
        count: 0-d, what the loss is divided by: number of units or sum of their weights; no gradient.
        metrics: name to (sum, count), detached. Names that end in `_max` hold (maximum, number of units).
        by_source: the same of the units of each source of rows, by its name, detached; {} where no examples name their source.
    """

    loss: Tensor
    count: Tensor
    metrics: Mapping[str, Ratio]
    by_source: Mapping[str, Sums] = field(default_factory=dict)

    def mean(self) -> Tensor:
        """Return the loss per unit (0-d, differentiable); 0 when nothing counts, so that an empty batch changes no weights."""
        return per_unit(self.loss, self.count)


@dataclass
class Totals:
    """Running metrics over the micro-batches of one batch: it adds sums and counts, and divides once at the end.

    Metrics whose name ends in `_max` keep the largest value instead. `means` is the first call that copies anything off the device.
    """

    _totals: dict[str, Ratio] = field(default_factory=dict)
    by_source: dict[str, Totals] = field(default_factory=dict)

    def add(self, sums: Sums) -> None:
        """Add one micro-batch: its metrics, its loss under the name `loss`, and those of each source."""
        for source, own in sums.by_source.items():
            self.by_source.setdefault(source, Totals()).add(own)
        for name, (value, count) in {"loss": (sums.loss.detach(), sums.count), **sums.metrics}.items():
            if name not in self._totals:
                self._totals[name] = (value, count)
                continue
            before, units = self._totals[name]
            joined = torch.maximum(before, value) if name.endswith(MAXIMUM) else before + value
            self._totals[name] = (joined, units + count)

    def means(self) -> dict[str, float]:
        """Return the mean (or maximum for `_max`) of each metric by name, without metrics whose count is 0."""
        means: dict[str, float] = {}
        for name, (value, count) in self._totals.items():
            units = float(count)
            if units > 0:
                means[name] = float(value) if name.endswith(MAXIMUM) else float(value) / units
        return means


def per_unit(total: Tensor, count: Tensor) -> Tensor:
    """Return `total / count`, and `total` itself where the count is 0; same shape."""
    return total / torch.where(count > 0, count, torch.ones_like(count))


def masked(values: Tensor, mask: Tensor) -> Tensor:
    """Return `values` where `mask` is True, else 0; what is masked, NaN included, has neither value nor gradient."""
    return torch.where(mask, values, 0)


def masked_ratio(values: Tensor, mask: Tensor) -> Ratio:
    """Return the sum of `values` over `mask` and the number of entries summed, detached."""
    return masked(values.detach(), mask).sum(), mask.sum()


def weighted_ratio(values: Tensor, weight: Tensor) -> Ratio:
    """Return the sum of `weight * values` and the sum of `weight`, detached."""
    weight = weight.detach()
    return (weight * values.detach()).sum(), weight.sum()


def maximum_ratio(values: Tensor, mask: Tensor) -> Ratio:
    """Return the largest of `values` >= 0 over `mask` (0 if the mask is empty) and the number of entries, detached."""
    kept = masked(values.detach(), mask)
    return kept.max() if kept.numel() else kept.new_zeros(()), mask.sum()


def check_shapes(owner: str, tensors: Mapping[str, Tensor]) -> None:
    """Check that all `tensors` have one shape, and that `mask`, if there is one, is boolean.

    Broadcasting would silently turn (p,) against (p, 1) into a loss over p * p pairs that do not exist.

    Raises:
        ValueError: shapes differ, or the mask is not boolean.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"{owner} needs tensors of one shape, got {shapes}; gather or flatten them in the same way first")
    mask = tensors.get("mask")
    if mask is not None and mask.dtype != torch.bool:
        raise ValueError(f"{owner} needs a boolean mask (True where something counts), got {mask.dtype}; write `mask.bool()`")

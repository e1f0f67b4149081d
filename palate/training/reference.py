"""References for log-ratios: a fixed one, one that follows the policy, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from palate.config.types import Count
from palate.core import ConfigError
from palate.distributed.sharing import shared
from palate.models.causal import CausalPolicy


class IndexedBatch(Protocol):
    """A micro-batch that holds the numbers of its examples."""

    @property
    def indices(self) -> tuple[int, ...]:
        """Numbers of its examples, in order."""
        ...


B = TypeVar("B", bound=IndexedBatch)


class ReferencedExamples(Protocol[B]):
    """Examples whose log-probabilities are measured under both policy and reference."""

    @property
    def rows(self) -> Sequence[int]:
        """Number of rows of each example in `measure`."""
        ...

    @property
    def columns(self) -> int:
        """Number of columns of `measure`."""
        ...

    def batches(self, indices: list[int]) -> Iterator[B]:
        """Return micro-batches of these examples, packed one after another because a whole data set may not fit in memory."""
        ...

    def measure(self, policy: CausalPolicy, batch: B) -> Tensor:
        """Return the log-probabilities (rows, columns) of a micro-batch, in nats."""
        ...


@dataclass(frozen=True)
class ReferenceUpdate:
    """A reference that follows the policy: TR-DPO (Gorbatovski et al. 2024).

    Attributes:
        every: optimizer steps between updates.
        share: share of the policy in the new reference. 1 replaces the reference (hard update); 0.5 to 0.6 every step is a soft update.
    """

    every: Count = 256
    share: float = 1.0

    def __post_init__(self) -> None:
        """Check the share."""
        if not 0 < self.share <= 1:
            raise ConfigError(
                f"reference_update: share must be above 0 and at most 1, got {self.share}; 1 replaces the reference by the policy"
            )


class Reference(Protocol):
    """Gives the values under a reference, and may move before each optimizer step."""

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """Modules to save with the learner, by name."""
        ...

    def values(self, source: ReferencedExamples[B]) -> Callable[[B], Tensor]:
        """Return a function from a micro-batch of the source to its values under the reference (rows, columns)."""
        ...

    def before_step(self, policy: CausalPolicy, steps_done: int) -> None:
        """Move the reference if an update is due."""
        ...


class UniformReference:
    """No reference: its values are 0, so that log-ratios are log-probabilities."""

    modules: Mapping[str, nn.Module] = {}

    def values(self, source: ReferencedExamples[B]) -> Callable[[B], Tensor]:
        """Return a function that gives zeros."""
        return lambda batch: torch.zeros(sum(source.rows[k] for k in batch.indices), source.columns)

    def before_step(self, policy: CausalPolicy, steps_done: int) -> None:
        """Do nothing: this reference does not move."""


class FixedReference:
    """A reference that does not move; the values of a source are measured once, in `values`."""

    modules: Mapping[str, nn.Module] = {}

    def __init__(self, reference: CausalPolicy) -> None:
        self._reference: CausalPolicy | None = reference

    def values(self, source: ReferencedExamples[B]) -> Callable[[B], Tensor]:
        """Measure the whole source at once, because the reference may be the policy itself before its first step."""
        measured: dict[int, Tensor] = {}
        reference = self._reference
        assert reference is not None, "values after release"
        with torch.no_grad():
            batches = source.batches(list(range(len(source.rows))))
            for indices, values in shared(batches, lambda batch: (batch.indices, source.measure(reference, batch))):
                measured.update(zip(indices, values.split([source.rows[k] for k in indices]), strict=True))
        return lambda batch: torch.cat([measured[k] for k in batch.indices])

    def release(self) -> None:
        """Forget the model, once `values` was called for every source: its memory is then free for learning."""
        self._reference = None

    def before_step(self, policy: CausalPolicy, steps_done: int) -> None:
        """Do nothing: this reference does not move."""


class MovingReference:
    """A reference that follows the policy and is measured again for every micro-batch."""

    def __init__(self, reference: CausalPolicy, update: ReferenceUpdate) -> None:
        # A copy, so that the policy can move away from it. Its weights get no gradient and so no step. They count as the learner's only
        # to be saved and restored with the rest.
        self._reference = reference.reference()
        self._reference.module.requires_grad_(requires_grad=True)
        self._update = update
        self.modules: Mapping[str, nn.Module] = {"reference": self._reference.module}

    def values(self, source: ReferencedExamples[B]) -> Callable[[B], Tensor]:
        """Return a function that measures under the reference as it is when called."""

        def measured(batch: B) -> Tensor:
            with torch.no_grad():
                return source.measure(self._reference, batch)

        return measured

    def before_step(self, policy: CausalPolicy, steps_done: int) -> None:
        """Set `reference = share policy + (1 - share) reference` after every multiple of `every` steps."""
        if steps_done and steps_done % self._update.every == 0:
            with torch.no_grad():
                for old, new in zip(self._reference.parameters(), policy.parameters(), strict=True):
                    old.lerp_(new, self._update.share)

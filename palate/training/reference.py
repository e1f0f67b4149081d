"""What log-ratios are taken against: a reference that stays, one that follows the policy, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from palate.config.types import Count
from palate.core import ConfigError
from palate.models.causal import CausalPolicy


class IndexedBatch(Protocol):
    """A micro-batch that knows which examples it holds."""

    @property
    def indices(self) -> tuple[int, ...]:
        """Numbers of its examples, in order."""
        ...


B = TypeVar("B", bound=IndexedBatch)


class ReferencedExamples(Protocol[B]):
    """Examples whose log-probabilities are measured under policy and reference alike."""

    @property
    def rows(self) -> Sequence[int]:
        """Rows that each example has in `measure`."""
        ...

    @property
    def columns(self) -> int:
        """Columns of `measure`."""
        ...

    def batches(self, indices: list[int]) -> Iterator[B]:
        """Micro-batches of these examples, packed one after another: of a whole data set they would not fit in memory together."""
        ...

    def measure(self, policy: CausalPolicy, batch: B) -> Tensor:
        """Log-probabilities (rows, columns) of a micro-batch, nats."""
        ...


@dataclass(frozen=True)
class ReferenceUpdate:
    """A reference that follows the policy: TR-DPO (Gorbatovski et al. 2024).

    Attributes:
        every: optimizer steps between updates.
        share: of the policy in the new reference; 1 replaces it (hard), 0.5 to 0.6 every step is the soft form.
    """

    every: Count = 256
    share: float = 1.0

    def __post_init__(self) -> None:
        """Checks the share."""
        if not 0 < self.share <= 1:
            raise ConfigError(
                f"reference_update: share must lie above 0 and be at most 1, got {self.share}; 1 replaces the reference by the policy"
            )


class Reference(Protocol):
    """Gives reference values; asked before each optimizer step whether it moves."""

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """What must be saved with the learner, by name."""
        ...

    def values(self, source: ReferencedExamples[B]) -> Callable[[B], Tensor]:
        """A function from a micro-batch of the source to its values under the reference (rows, columns)."""
        ...

    def before_step(self, policy: CausalPolicy, steps_done: int) -> None:
        """Moves the reference when it is due."""
        ...


class UniformReference:
    """No reference: 0 everywhere, so that log-ratios are log-probabilities."""

    modules: Mapping[str, nn.Module] = {}

    def values(self, source: ReferencedExamples[B]) -> Callable[[B], Tensor]:
        """Zeros."""
        return lambda batch: torch.zeros(sum(source.rows[k] for k in batch.indices), source.columns)

    def before_step(self, policy: CausalPolicy, steps_done: int) -> None:
        """Nothing moves."""


class FixedReference:
    """A reference that stays: everything is measured once, when it is first asked for."""

    modules: Mapping[str, nn.Module] = {}

    def __init__(self, reference: CausalPolicy) -> None:
        self._reference = reference

    def values(self, source: ReferencedExamples[B]) -> Callable[[B], Tensor]:
        """Values of the whole source, measured now: the policy itself may be the reference, as it is before the first step."""
        found: dict[int, Tensor] = {}
        with torch.no_grad():
            for batch in source.batches(list(range(len(source.rows)))):
                sizes = [source.rows[k] for k in batch.indices]
                found.update(zip(batch.indices, source.measure(self._reference, batch).split(sizes), strict=True))
        return lambda batch: torch.cat([found[k] for k in batch.indices])

    def before_step(self, policy: CausalPolicy, steps_done: int) -> None:
        """Nothing moves."""


class MovingReference:
    """A reference that follows the policy; measured anew with every micro-batch."""

    def __init__(self, reference: CausalPolicy, follow: ReferenceUpdate) -> None:
        # A copy, so that the policy can move away from it. Its weights get no gradient and so no step, but count as the learner's:
        # they are saved and restored with the rest.
        self._reference = reference.reference()
        self._reference.module.requires_grad_(requires_grad=True)
        self._follow = follow
        self.modules: Mapping[str, nn.Module] = {"reference": self._reference.module}

    def values(self, source: ReferencedExamples[B]) -> Callable[[B], Tensor]:
        """Values under the reference as it stands at that moment."""

        def measured(batch: B) -> Tensor:
            with torch.no_grad():
                return source.measure(self._reference, batch)

        return measured

    def before_step(self, policy: CausalPolicy, steps_done: int) -> None:
        """`reference = share policy + (1 - share) reference`, when a multiple of `every` steps is done."""
        if steps_done and steps_done % self._follow.every == 0:
            with torch.no_grad():
                for old, new in zip(self._reference.parameters(), policy.parameters(), strict=True):
                    old.lerp_(new, self._follow.share)

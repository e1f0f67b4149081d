"""What a method of learning gives the loop: who learns, and scored rollouts made ready to learn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from torch import Tensor, nn

from palate.models.causal import CausalPolicy
from palate.models.load import DType
from palate.models.scalar import ScalarModel
from palate.objectives.importance import TruncatedImportance
from palate.objectives.kl import KLPenalty
from palate.objectives.reduce import Sums
from palate.runs.run import Run
from palate.stages.online.rollouts import Scored
from palate.text.pack import PackedBatch
from palate.training.learner import Learner

P = TypeVar("P")


class TrainingBatch(Protocol[P]):
    """Scored rollouts ready to learn from, in units (prompts, mostly) that passes go over in a new order."""

    @property
    def units(self) -> int:
        """How many there are; may be 0."""
        ...

    @property
    def metrics(self) -> Mapping[str, float]:
        """What is worth recording of the credit itself."""
        ...

    def parts(self, chosen: Sequence[int]) -> list[P]:
        """Micro-batches of some units, by number."""
        ...

    def count(self, part: P) -> float:
        """What the loss of a micro-batch will be divided by, its share."""
        ...

    def losses(self, part: P) -> Sequence[Callable[[], Sums]]:
        """The losses of a micro-batch, a backward pass each: models that share nothing need not keep their activations together.

        Their counts add up to `count`.
        """
        ...


class Algorithm(Protocol[P]):
    """The policy and what learns beside it."""

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """What is trained beside the policy, by name."""
        ...

    @property
    def values(self) -> Callable[[PackedBatch], Tensor] | None:
        """Gives (n,) the reward expected before each token; None where nothing expects any."""
        ...

    def lesson(self, scored: Scored, kl_coef: float) -> TrainingBatch[P]:
        """What is to be learned of a round."""
        ...

    def check(self, step: int, first: Mapping[str, float]) -> None:
        """Nothing; looks at the metrics of a round's first optimizer step. Raises TrainingError when they cannot be right."""
        ...

    def summarised(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Metrics as they are logged."""
        ...

    def keep(self, run: Run, learner: Learner) -> None:
        """Nothing; writes what was trained beside the policy."""
        ...


class NullAlgorithm:
    """A student with nothing beside the policy; what its losses measure is logged as it is."""

    modules: Mapping[str, nn.Module] = {}
    values = None

    def check(self, step: int, first: Mapping[str, float]) -> None:
        """Nothing to look at."""

    def summarised(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """The metrics as they are."""
        return dict(metrics)

    def keep(self, run: Run, learner: Learner) -> None:
        """Nothing to write."""


@dataclass(frozen=True)
class AlgorithmContext:
    """What a student is given.

    Attributes:
        run: where it is trained.
        policy: what samples and learns.
        value_model: gives a value model that is ready to learn.
        kl: where the price of KL is paid.
        temperature: that of sampling.
        dtype: what the policy computes in.
        tokens_per_microbatch: tokens a forward pass holds at most.
        correction: of log-probabilities that are not the learner's; None takes them as they are.
    """

    run: Run
    policy: CausalPolicy
    value_model: Callable[[], ScalarModel]
    kl: KLPenalty
    temperature: float
    dtype: DType
    tokens_per_microbatch: int
    correction: TruncatedImportance | None

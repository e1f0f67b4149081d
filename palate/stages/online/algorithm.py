"""What an algorithm of online training gives the loop: a batch to learn from, and the modules that learn beside the policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from palate.models.causal import CausalPolicy
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
    """Scored rollouts ready to learn from, in units (prompts or pairs) whose order changes from epoch to epoch."""

    @property
    def units(self) -> int:
        """The number of units; may be 0."""
        ...

    @property
    def metrics(self) -> Mapping[str, float]:
        """The metrics of the batch itself, such as the spread of its advantages."""
        ...

    def microbatches(self, units: Sequence[int]) -> list[P]:
        """Return the micro-batches of these units, given by number."""
        ...

    def count(self, microbatch: P) -> float:
        """Return the micro-batch's share of the number that the loss is divided by."""
        ...

    def losses(self, microbatch: P) -> Sequence[Callable[[], Sums]]:
        """Return the losses of a micro-batch; each gets a backward pass of its own, so models that share nothing use less memory.

        Their counts add up to `count`.
        """
        ...


class Algorithm(Protocol[P]):
    """The policy's way of learning, and what learns beside the policy."""

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """The modules that are trained beside the policy, by name."""
        ...

    @property
    def values(self) -> Callable[[PackedBatch], Tensor] | None:
        """A function that returns the reward expected before each token (n,); None without a value model."""
        ...

    def batch(self, scored: Scored, kl_coef: float) -> TrainingBatch[P]:
        """Return what the policy learns from in this iteration."""
        ...

    def check_first_step(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """Raise TrainingError when the metrics of an iteration's first optimizer step cannot be right."""
        ...

    def logged(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return an optimizer step's metrics as they are logged."""
        ...

    def save(self, run: Run, learner: Learner) -> None:
        """Write what was trained beside the policy to the run's directory."""
        ...


class NullAlgorithm:
    """The parts of an algorithm that trains the policy alone and logs its metrics as they are."""

    modules: Mapping[str, nn.Module] = {}
    values = None

    def check_first_step(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """Accept every first step."""

    def logged(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return the metrics as they are."""
        return dict(metrics)

    def save(self, run: Run, learner: Learner) -> None:
        """Write nothing: there is only the policy."""


@dataclass(frozen=True)
class AlgorithmContext:
    """What an algorithm is made with.

    Attributes:
        run: the run that trains.
        policy: the policy that samples and learns.
        value_model: returns a value model that is ready to learn.
        kl: the price of KL, and where it is paid.
        temperature: the temperature of sampling.
        max_tokens: tokens of the longest completion that is sampled.
        dtype: the type that the policy computes in.
        tokens_per_microbatch: tokens in a forward pass, at most.
        correction: corrects log-probabilities that are not the learner's; None uses them as they are.
    """

    run: Run
    policy: CausalPolicy
    value_model: Callable[[], ScalarModel]
    kl: KLPenalty
    temperature: float
    max_tokens: int
    dtype: torch.dtype
    tokens_per_microbatch: int
    correction: TruncatedImportance | None

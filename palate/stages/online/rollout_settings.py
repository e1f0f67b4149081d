"""How the completions of an iteration are drawn: in this process, or with vLLM."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from palate.config.types import Amount, Count, Share
from palate.core import ConfigError
from palate.models.causal import CausalPolicy
from palate.objectives.importance import TruncatedImportance
from palate.samplers.local import LocalSampler
from palate.samplers.sampler import UpdatableSampler
from palate.samplers.vllm_sampler import VLLMSampler, check_vllm


@dataclass(frozen=True, kw_only=True)
class RolloutSettings:
    """What all kinds of samplers have in common.

    Attributes:
        resample: how often, at most, new prompts replace those whose completions all got the same reward (DAPO).
        asynchronous: 1 samples the next iteration while the policy learns from this one. The sampling policy is then one iteration behind
            (see `staleness`).
    """

    resample: int = 0
    asynchronous: Literal[0, 1] = 0

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.resample < 0:
            raise ConfigError(f"sampler: resample must be 0 or more, got {self.resample}")
        if self.resample and self.asynchronous:
            raise ConfigError(
                "sampler: resample needs the rewards before it samples again, so sampling cannot be asynchronous: leave one of them at 0"
            )


@dataclass(frozen=True, kw_only=True)
class LocalRollouts(RolloutSettings):
    """The learner's process draws, with the learner's own weights.

    Attributes:
        correction: recompute the log-probabilities with the learner, and weight tokens by how far the sampler's were off. Use it for
            sampling in bfloat16. None uses the sampler's as they are, after a check that they agree.
    """

    kind: Literal["local"] = "local"
    correction: TruncatedImportance | None = None

    def check(self) -> None:
        """Accept every machine."""

    def open(self, policy: CausalPolicy, _directory: Path) -> UpdatableSampler:
        """Return a sampler of the policy. With asynchronous sampling it has a copy of the weights."""
        return LocalSampler(copy.deepcopy(policy) if self.asynchronous else policy)


@dataclass(frozen=True, kw_only=True)
class VLLMRollouts(RolloutSettings):
    """vLLM draws in the learner's process, from a copy of the weights in the type that the learner computes in.

    Each iteration sends it the weights as files. A probe after that ends the run where vLLM does not compute what the learner computes.

    Attributes:
        correction: recompute the log-probabilities with the learner, and weight tokens by how far vLLM's were off. None uses vLLM's as they
            are, after a check that they agree.
        memory_share: the share of a GPU's memory that vLLM takes for weights, keys and values; the learner needs the rest.
        concurrency: number of completions at the same time.
        tolerance: the largest difference of a probed token's log-probability, nats; none allows 0.001 in float32 and 0.25 in bfloat16.
    """

    kind: Literal["vllm"] = "vllm"
    correction: TruncatedImportance | None = field(default_factory=TruncatedImportance)
    memory_share: Share = 0.4
    concurrency: Count = 256
    tolerance: Amount | None = None

    def check(self) -> None:
        """Raise ConfigError where vLLM is not installed, or several ranks work together."""
        check_vllm()

    def open(self, policy: CausalPolicy, directory: Path) -> UpdatableSampler:
        """Start vLLM with the policy's weights, which go to it through a directory. Raises ConfigError as `VLLMSampler`."""
        return VLLMSampler(
            policy,
            directory,
            memory_share=self.memory_share,
            concurrency=self.concurrency,
            tolerance=self.tolerance,
        )

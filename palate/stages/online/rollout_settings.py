"""How the completions of an iteration are drawn: in this process, with vLLM beside the learner, or by vLLM's servers."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Literal

from palate.config.types import Amount, Count, Share
from palate.core import ConfigError
from palate.models.adapters import LoRA
from palate.models.causal import CausalPolicy
from palate.objectives.importance import TruncatedImportance
from palate.runs.run import Run
from palate.samplers.local import LocalSampler
from palate.samplers.sampler import UpdatableSampler
from palate.samplers.vllm_sampler import VLLMSampler, check_vllm
from palate.samplers.vllm_server_settings import VLLMServerSettings
from palate.samplers.vllm_servers import VLLMServers


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

    def check(self, _adapters: LoRA | None) -> None:
        """Accept every machine."""

    def open(self, policy: CausalPolicy, _run: Run) -> UpdatableSampler:
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
        tolerance: the largest difference of a probed token's log-probability, nats; none allows 0.001 in float32,
            0.03 in float16, and 0.25 in bfloat16.
    """

    kind: Literal["vllm"] = "vllm"
    correction: TruncatedImportance | None = field(default_factory=TruncatedImportance)
    memory_share: Share = 0.4
    concurrency: Count = 256
    tolerance: Amount | None = None

    def check(self, _adapters: LoRA | None) -> None:
        """Raise ConfigError where vLLM is not installed, or several ranks work together."""
        check_vllm()

    def open(self, policy: CausalPolicy, run: Run) -> UpdatableSampler:
        """Start vLLM with the policy's weights, which go to it through the run's folder. Raises ConfigError as `VLLMSampler`."""
        return VLLMSampler(
            policy,
            run.state / "sampler",
            memory_share=self.memory_share,
            concurrency=self.concurrency,
            tolerance=self.tolerance,
        )


@dataclass(frozen=True, kw_only=True)
class VLLMServerRollouts(VLLMServerSettings, RolloutSettings):
    """Servers of vLLM draw, from copies of the weights that reach them as files.

    After each load a probe leaves out a server that does not compute what the learner computes. The run ends where no server is left.

    Attributes:
        correction: recompute the log-probabilities with the learner, and weight tokens by how far vLLM's were off. None uses vLLM's as they
            are, after a check that they agree.
    """

    kind: Literal["vllm_servers"] = "vllm_servers"
    correction: TruncatedImportance | None = field(default_factory=TruncatedImportance)

    def __post_init__(self) -> None:
        """Check the settings."""
        VLLMServerSettings.__post_init__(self)
        RolloutSettings.__post_init__(self)
        if self.sleep and self.asynchronous:
            raise ConfigError(
                "sampler.sleep lets the servers sleep while the policy learns, and with sampler.asynchronous they draw then: use only one"
            )

    def check(self, adapters: LoRA | None) -> None:
        """Raise ConfigError where the adapter alone is to be sent, and there is none, or vLLM does not take it."""
        self.check_adapters(adapters)

    def open(self, policy: CausalPolicy, run: Run) -> UpdatableSampler:
        """Return a sampler that asks the servers; the first load sends them weights. Raises ConfigError as `VLLMServers`."""
        return VLLMServers(policy, self, run.state / "sampler", run.say)

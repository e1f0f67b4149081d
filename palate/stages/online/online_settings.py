"""The settings of stage `online`, and the checks that they fit each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from palate.config.types import OUTSIDE_KEY, Count, FunctionInput, ModelInput, RewardInput, name_of_kind
from palate.core import ConfigError, Sampling
from palate.data.data_sources import DataInput, check_unweighted, sources_of
from palate.data.formats import ColumnTypes, Recognised
from palate.evaluation.tax import TaxProbes
from palate.models.adapters import LoRA
from palate.models.precision import DType
from palate.objectives.kl import BudgetKL
from palate.objectives.shaping import Shaping
from palate.rewards.composition import RewardPart
from palate.rewards.model import ModelReward
from palate.rewards.written_rules import WrittenRules
from palate.stages.online.online_dpo import OnlineDPO
from palate.stages.online.people_checks import PeopleInside
from palate.stages.online.policy_gradient import PolicyGradient
from palate.stages.online.presets import SETTINGS
from palate.stages.online.pretraining import Pretraining
from palate.stages.online.raft import RAFT
from palate.stages.online.reference_penalty import ReferencePenalty
from palate.stages.online.rollout_settings import LocalRollouts, VLLMRollouts, VLLMServerRollouts
from palate.training.guards import Guards
from palate.training.keep import BestReward, Last
from palate.training.model_io import check_packages
from palate.training.optimizer import AdamW

Method = PolicyGradient | OnlineDPO | RAFT


@dataclass(frozen=True)
class RewardModelRequirements:
    """What a reward model must have reached on held-out judgments before a policy is trained on it.

    Attributes:
        min_accuracy: the lowest accuracy that is accepted, which must also be above that of the better length rule by the interval of
            their difference; 0 accepts every reward model.
        min_spread: the lowest spread of its scores that is accepted, in logits.
        max_failed: the share of an iteration's completions that a part of the reward may fail to score.
    """

    min_accuracy: float = 0.55
    min_spread: float = 0.05
    max_failed: float = 0.05


@dataclass(frozen=True)
class HeldOutData:
    """What is measured and never learned from.

    Attributes:
        reward: another reward model, which scores completions of every iteration.
        completions: completions of each prompt that it scores, at most; none scores all. One costs the least, with a larger standard error.
        prompts: prompts on which `keep` measures the policy: by `reward` here, or by the rewards of training without it. One
            path, or several sources, whose rewards are logged apart.
        limit: how many of these prompts are used, at most, of each source.
        people: people who compare the policy's answers with the start's while it trains, and can stop the run; none asks nobody.
        tax: texts and evals that are measured every few iterations, for what the policy loses; none measures nothing.
    """

    reward: RewardInput | None = None
    completions: Count | None = None
    prompts: DataInput | None = None
    limit: Count | None = 256
    people: PeopleInside | None = None
    tax: TaxProbes | None = None


@dataclass(frozen=True)
class OnlineSettings:
    """The settings of stage `online`.

    Attributes:
        model: the policy to start from; it is also the reference.
        reward: a reward model, or the run that trained it; a short form of `rewards` with this model alone.
        rewards: the parts of the reward by name: reward models, functions, rules, servers, judges.
        prompts: the prompts to complete; one path, or several sources with weights (docs/data.md).
        columns: what the columns of the prompts hold where their names do not say it: a type, and columns by name.
        limit: how many prompts are read, at most, of each source; none reads all.
        iterations: how often the run samples and learns.
        prompts_per_iteration: prompts per iteration.
        samples_per_prompt: completions per prompt.
        sampler: what samples.
        epochs_per_batch: epochs over an iteration's completions.
        minibatches: optimizer steps per epoch.
        sampling: the temperature, and the longest completion; the distribution cannot be cut.
        method: the algorithm: policy_gradient (PPO, RLOO, GRPO ...), online_dpo (online DPO) or raft (RAFT).
        kl: the price of distance from the reference, in KL.
        shaping: how scores become rewards: a missing end token, length, clipping.
        pretraining: texts that the policy also learns from (PPO-ptx); none uses no texts.
        reward_requirements: what a reward model must have reached.
        guards: what the run watches, and what stops it. They are not part of the run's key: a run that was stopped goes on with others.
        held_out: what is measured and never learned from.
        keep: the last weights, or those with the highest reward on held-out prompts within a KL budget.
        gold: import path of a function that knows the truth; its value is logged and never learned from.
        tokens_per_microbatch: tokens in a forward pass, at most.
        dtype: the type that all models compute in; auto is bfloat16 on GPUs, else float32. Weights and optimizer state stay float32.
        offload: frozen models rest in the CPU's memory while they do not compute. These are the reference and the reward models. It
            changes no numbers. The copies take time in every iteration.
        optimizer: the optimizer of the policy and the value model.
        adapters: train LoRA adapters on the frozen policy and value model; none trains all weights. The reference is then the policy with
            its adapter off, not a second copy.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, object]]] = SETTINGS

    model: ModelInput
    prompts: DataInput
    reward: RewardInput | None = None
    rewards: dict[str, RewardPart] = field(default_factory=dict)
    columns: ColumnTypes = field(default_factory=Recognised)
    limit: Count | None = None
    iterations: Count = 12
    prompts_per_iteration: Count = 64
    samples_per_prompt: Count = 4
    sampler: LocalRollouts | VLLMRollouts | VLLMServerRollouts = field(default_factory=LocalRollouts)
    epochs_per_batch: Count = 2
    minibatches: Count = 4
    sampling: Sampling = field(default_factory=Sampling)
    method: Method = field(default_factory=PolicyGradient)
    kl: ReferencePenalty = field(default_factory=ReferencePenalty)
    shaping: Shaping = field(default_factory=Shaping)
    pretraining: Pretraining | None = None
    reward_requirements: RewardModelRequirements = field(default_factory=RewardModelRequirements)
    guards: Guards = field(default_factory=Guards, metadata=OUTSIDE_KEY)
    held_out: HeldOutData = field(default_factory=HeldOutData)
    keep: Last | BestReward = field(default_factory=Last)
    gold: FunctionInput | None = None
    tokens_per_microbatch: Count = 8192
    dtype: DType = "auto"
    offload: bool = field(default=False, metadata=OUTSIDE_KEY)
    optimizer: AdamW = field(default_factory=lambda: AdamW(lr=1e-5, eps=1e-5, warmup=0.0))
    adapters: LoRA | None = None

    def check(self) -> None:
        """Raise ConfigError when settings contradict each other, or a package is missing."""
        sources_of(self.prompts)
        check_unweighted(self.held_out.prompts)
        check_packages(self.optimizer, self.adapters)
        sampling = self.sampling
        if sampling.top_k or sampling.top_p < 1 or sampling.min_p:
            raise ConfigError(
                "sampling.top_k, sampling.top_p and sampling.min_p cut the distribution, so ratios would be those of another one: "
                "leave them at 0, 1 and 0"
            )
        if not sampling.temperature > 0:
            raise ConfigError(f"sampling.temperature must be above 0 to explore, got {sampling.temperature}")
        if (self.reward is None) == (not self.rewards):
            raise ConfigError("online needs a reward: name a reward model in reward, or parts in rewards, and not both")
        if self.minibatches > self.prompts_per_iteration:
            raise ConfigError(
                f"minibatches {self.minibatches} exceeds prompts_per_iteration {self.prompts_per_iteration}: "
                "the completions of a prompt stay in one minibatch. Lower minibatches"
            )
        if isinstance(self.keep, BestReward) != (self.held_out.prompts is not None):
            raise ConfigError(
                "keep: best_reward and held_out.prompts need each other: name prompts that are not trained on, or use keep: last"
            )
        if self.sampler.resample and self.samples_per_prompt < 2:
            raise ConfigError(
                "sampler.resample replaces prompts whose completions all got the same reward, which one completion always has: set "
                "samples_per_prompt to 2 or more, or sampler.resample to 0"
            )
        self._check_rewards()
        if self.held_out.people is not None:
            self.held_out.people.check(self.keep)
            if self.kl.reference is not None:
                raise ConfigError(
                    "held_out.people compares with the policy as it started, which must be the reference: leave out kl.reference"
                )
        self.sampler.check(self.adapters)
        self.shaping.within(self.sampling.max_tokens)
        self.method.check(self.samples_per_prompt)
        if isinstance(self.method, PolicyGradient):
            self.method.check_reward(self.kl, self.shaping)
        if not self.method.pays_kl and replace(self.kl, reference=None) != ReferencePenalty() and not isinstance(self.kl.control, BudgetKL):
            raise ConfigError(
                f"method {name_of_kind(self.method)} does not pay for KL: leave kl out, or use kl.control: budget_kl, which stops the run"
            )

    def _check_rewards(self) -> None:
        """Raise ConfigError where the parts of the reward do not fit how completions are sampled, measured and offloaded."""
        parts = self.reward_parts().values()
        has_scorer = self.held_out.reward is not None or any(isinstance(part, ModelReward | WrittenRules) for part in parts)
        if self.offload and self.adapters is not None and not has_scorer:
            raise ConfigError(
                "offload would have no effect: with adapters the reference is the policy with its adapter off, and there is no reward "
                "model. Leave it out"
            )
        compared = [name for name, part in self.reward_parts().items() if part.compares_siblings]
        if compared and self.samples_per_prompt < 2:
            raise ConfigError(f"rewards.{compared[0]} compares the completions of a prompt, and samples_per_prompt is 1. Set it to 4 to 8")
        if compared and isinstance(self.keep, BestReward) and self.held_out.reward is None:
            raise ConfigError(
                f"keep: best_reward scores one completion per prompt, and rewards.{compared[0]} needs others beside it. Name a reward "
                "model in held_out.reward, or use keep: last"
            )

    @property
    def has_flat_groups(self) -> bool:
        """Whether a prompt whose completions all got the same reward is lost for learning."""
        return self.samples_per_prompt > 1 and (self.method.compares_siblings or bool(self.sampler.resample))

    def reward_parts(self) -> Mapping[str, RewardPart]:
        """Return the parts of the reward by name; `reward` alone is one part called "reward"."""
        return self.rewards if self.reward is None else {"reward": ModelReward(model=(self.reward,))}

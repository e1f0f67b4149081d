"""The settings of stage `online`, and what is done with them from start to end."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from palate.config.types import Count, Input, ModelInput
from palate.core import ConfigError, Sampling
from palate.models.adapters import LoRA
from palate.models.load import DType
from palate.objectives.importance import TruncatedImportance
from palate.objectives.kl import BudgetKL, KLPenalty
from palate.objectives.shaping import Shaping
from palate.rewards.composition import RewardPart
from palate.rewards.learned import required_report_card
from palate.rewards.model import ModelReward
from palate.runs.run import Run
from palate.stages.online.loop import Loop
from palate.stages.online.online_dpo import OnlineDPO
from palate.stages.online.policy_gradient import PolicyGradient
from palate.stages.online.presets import SETTINGS
from palate.stages.online.pretraining import Pretraining
from palate.stages.online.raft import RAFT
from palate.training.fit import CHECKPOINT_SECONDS
from palate.training.guards import Guards, Watch
from palate.training.keep import BestReward, Last
from palate.training.model_io import keep_model, trained
from palate.training.optimizer import AdamW

Method = PolicyGradient | OnlineDPO | RAFT


@dataclass(frozen=True)
class RewardModelRequirements:
    """What a reward model must have shown on held-out judgments before a policy is trained on it.

    Attributes:
        min_accuracy: the least accuracy; 0 trusts it all the same.
        min_spread: the least spread of its scores, in logits.
        max_failed: share of a round's completions that a part of the reward may fail to score.
    """

    min_accuracy: float = 0.55
    min_spread: float = 0.05
    max_failed: float = 0.05


@dataclass(frozen=True)
class SamplerSettings:
    """How a round's completions are come by.

    Attributes:
        resample: further rounds of sampling, at most, in place of prompts whose completions all got the same reward (DAPO).
        correction: recompute log-probabilities by the learner before it learns, and weigh tokens by how far the sampler's were off: for
            sampling in bfloat16, or by another engine. None takes the sampler's as they are, after a check that they agree.
        asynchronous: 1 samples the next round while this one is learned from: its policy is then one round behind (see `staleness`).
    """

    resample: int = 0
    asynchronous: Literal[0, 1] = 0
    correction: TruncatedImportance | None = None

    def __post_init__(self) -> None:
        """Checks the settings."""
        if self.resample < 0:
            raise ConfigError(f"sampler: resample must be 0 or more, got {self.resample}")
        if self.resample and self.asynchronous:
            raise ConfigError("sampler: resample waits for rewards before it samples on, so nothing can be ahead: leave one of them at 0")


@dataclass(frozen=True)
class HeldOutData:
    """What is measured and never learned from.

    Attributes:
        reward: another reward model, which scores every round's completions.
        prompts: prompts on which `keep` measures the policy; by `reward`, or else by the rewards that are learned from.
        limit: prompts at most.
    """

    reward: Input | None = None
    prompts: Input | None = None
    limit: Count | None = 256


@dataclass(frozen=True)
class Online:
    """Tune a policy on rewards of its own completions, under a KL budget.

    Attributes:
        model: the policy to start from; also the reference it is held to.
        reward: a reward model, or the run that trained it; short for `rewards` with this model alone.
        rewards: what gives the reward, by name: reward models, functions, rules, servers, judges.
        prompts: what to complete.
        limit: prompts at most; none takes all.
        iterations: rounds of sampling and learning.
        prompts_per_iteration: prompts a round.
        samples_per_prompt: completions of each.
        sampler: whether flat prompts are replaced, and whether sampling runs ahead.
        epochs_per_batch: times a round's completions are learned from.
        minibatches: optimizer steps a pass.
        sampling: temperature and the longest completion; the whole distribution must be kept.
        method: how is learned: policy_gradient (PPO, RLOO, GRPO ...), online_dpo (online DPO), raft (RAFT).
        kl: what keeps the policy near the reference, and what that costs.
        shaping: from scores to rewards: a missing end, length, clipping.
        pretraining: texts that are learned from beside the rewards (PPO-ptx); none mixes nothing in.
        reward_requirements: what a reward model must have shown.
        guards: what is watched, and what stops the run.
        held_out: what is measured beside the rewards; none measures nothing more.
        keep: the last weights, or those with the highest reward on held-out prompts within a budget of KL.
        gold: import path of a function that knows the truth, for the record only; nothing is learned from it.
        tokens_per_microbatch: tokens a forward pass holds at most.
        dtype: what the policy and the value model compute in; weights, gradients over a step and optimizer state stay float32.
        optimizer: how policy and value model are moved.
        adapters: train LoRA adapters on the frozen policy and value model; none trains them whole. The reference is then the policy with
            its adapter off, not a second copy.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, object]]] = SETTINGS

    model: ModelInput
    prompts: Input
    reward: Input | None = None
    rewards: dict[str, RewardPart] = field(default_factory=dict)
    limit: Count | None = None
    iterations: Count = 12
    prompts_per_iteration: Count = 64
    samples_per_prompt: Count = 4
    sampler: SamplerSettings = field(default_factory=SamplerSettings)
    epochs_per_batch: Count = 2
    minibatches: Count = 4
    sampling: Sampling = field(default_factory=Sampling)
    method: Method = field(default_factory=PolicyGradient)
    kl: KLPenalty = field(default_factory=KLPenalty)
    shaping: Shaping = field(default_factory=Shaping)
    pretraining: Pretraining | None = None
    reward_requirements: RewardModelRequirements = field(default_factory=RewardModelRequirements)
    guards: Guards = field(default_factory=Guards)
    held_out: HeldOutData = field(default_factory=HeldOutData)
    keep: Last | BestReward = field(default_factory=Last)
    gold: str | None = None
    tokens_per_microbatch: Count = 8192
    dtype: DType = "float32"
    optimizer: AdamW = field(default_factory=lambda: AdamW(lr=1e-5, eps=1e-5, warmup=0.0))
    adapters: LoRA | None = None

    def check(self) -> None:
        """Checks that what is sampled is what is learned from, and that something is rewarded."""
        sampling = self.sampling
        if sampling.top_k or sampling.top_p < 1 or sampling.min_p:
            raise ConfigError(
                "sampling.top_k, sampling.top_p and sampling.min_p cut the distribution, and then ratios would be of another one: "
                "leave them at 0, 1 and 0"
            )
        if not sampling.temperature > 0:
            raise ConfigError(f"sampling.temperature must be above 0 to explore, got {sampling.temperature}")
        if (self.reward is None) == (not self.rewards):
            raise ConfigError("needs a reward: name a reward model in reward, or parts in rewards, and not both")
        if self.minibatches > self.prompts_per_iteration:
            raise ConfigError(
                f"minibatches {self.minibatches} exceeds prompts_per_iteration {self.prompts_per_iteration}: "
                "a prompt's completions stay together"
            )
        if isinstance(self.keep, BestReward) != (self.held_out.prompts is not None):
            raise ConfigError(
                "keep: best_reward and held_out.prompts need each other: name prompts that are not trained on, or keep the last"
            )
        self.method.check(self.samples_per_prompt)
        if not isinstance(self.method, PolicyGradient) and self.kl != KLPenalty() and not isinstance(self.kl.control, BudgetKL):
            raise ConfigError(f"method {self.method.kind} pays no price of KL: leave kl out, or give it the control budget_kl, which stops")

    def run(self, run: Run) -> None:
        """Trains the policy and saves it as `model/`; the last value model as `value/`."""
        cards = self._trusted(run)
        loop = Loop(self, run, self._parts())
        watch = Watch(self.guards)
        loop.restore()
        watch.recall(run.logged())
        saved = time.monotonic()
        with run.progress(self.iterations, "online", self._limits()) as advance:
            advance(loop.step)
            while loop.step < self.iterations and not loop.kl.is_spent and not loop.search.is_over:
                metrics = loop.iterate()
                watch.log(run, loop.step - 1, metrics)
                advance(1, f"score {metrics.get('online/score/mean', math.nan):+.2f}  kl {metrics['online/kl/mean']:.1f}")
                if (time.monotonic() - saved > CHECKPOINT_SECONDS or run.stop_requested) and watch.is_safe:
                    loop.save()
                    saved = time.monotonic()
                run.check_stop()
        best = loop.finish()
        keep_model(run, trained(run, loop.policy, self.adapters, loop.learner), self.adapters)
        loop.student.keep(run, loop.learner)
        run.summary({"cards": cards, "kl_coef": loop.kl.coef, "is_spent": loop.kl.is_spent, "rounds": loop.step, "last": loop.last, **best})

    def _limits(self) -> dict[str, float]:
        """What the live view shows beside KL."""
        control = self.kl.control
        nats = control.nats if isinstance(control, BudgetKL) else getattr(control, "target", None)
        return {} if nats is None else {"online/kl/mean": nats}

    def _parts(self) -> Mapping[str, RewardPart]:
        return self.rewards if self.reward is None else {"reward": ModelReward(model=(self.reward,))}

    def _trusted(self, run: Run) -> dict[str, dict[str, float]]:
        """The cards of all reward models, by part; those that have none are taken as they are."""
        found = {}
        for name, part in self._parts().items():
            for k, path in enumerate(part.model if isinstance(part, ModelReward) else ()):
                card = required_report_card(run, path, self.reward_requirements.min_accuracy, self.reward_requirements.min_spread)
                if card is not None:
                    found[f"{name}.{k}" if k else name] = vars(card)
        return found

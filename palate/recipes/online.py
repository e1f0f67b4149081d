"""Stage `online`: a policy from rewards of its own completions, under a KL penalty.

Every step does six things: prompt, sample, score, credit, learn, record.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

import numpy as np
import torch

from palate.core import ConfigError, Sampling, TrainingError, derive_seed
from palate.engines.local import LocalSampler
from palate.models.adapters import LoRA
from palate.models.load import load_policy
from palate.models.scalar import ScalarModel, scalar_from
from palate.objectives.kl import FixedKL, KLControl
from palate.objectives.policy_gradient import PolicyObjective, PolicyTokens, PPOClip
from palate.objectives.reduce import Sums
from palate.objectives.value import ClippedValue, ValueTokens, explained_variance
from palate.recipes import rollouts as roll
from palate.recipes.config import Count, Input, ModelInput
from palate.recipes.places import fitting, model_at, prompts_at
from palate.recipes.trainable import keep_model, trainable, trained
from palate.rewards.functions import load_function
from palate.rewards.learned import Card, LearnedReward
from palate.stores.runs import Run
from palate.text.pack import microbatches, pack
from palate.text.spans import prompt_ids
from palate.training.learner import Learner
from palate.training.loop import CHECKPOINT_SECONDS
from palate.training.optimizer import AdamW

EXPLAINED_BY = ("return", "return_squared", "residual", "residual_squared")


@dataclass(frozen=True)
class Values:
    """Credit by a value model: generalised advantage estimates (PPO).

    Attributes:
        gamma: discount a token.
        lam: 0 trusts the values, 1 the rewards.
        coefficient: weight of the value loss beside the policy's.
        objective: the value loss.
    """

    kind: Literal["values"] = "values"
    gamma: float = 1.0
    lam: float = 0.95
    coefficient: float = 0.1
    objective: ClippedValue = field(default_factory=ClippedValue)


@dataclass(frozen=True)
class Siblings:
    """Credit by comparison with the prompt's other completions (RLOO); needs no value model."""

    kind: Literal["siblings"] = "siblings"


Credit = Values | Siblings


@dataclass(frozen=True)
class Online:
    """Tune a policy on rewards of its own completions, under a KL budget.

    Attributes:
        model: the policy to start from; also the reference it is held to.
        reward: a reward model, or the run that trained it.
        prompts: what to complete.
        limit: prompts at most; none takes all.
        steps: rounds of sampling and learning.
        prompts_per_step: prompts a round.
        samples_per_prompt: completions of each.
        passes: times a round's completions are learned from.
        minibatches: optimizer steps a pass.
        sampling: temperature and the longest completion; the whole distribution must be kept.
        credit: how tokens are credited: values (PPO) or siblings (RLOO).
        objective: the policy's loss.
        kl: coefficient of the KL penalty in the reward: fixed or adaptive.
        missing_end_reward: the reward of a completion that was cut off, instead of its score.
        min_accuracy: the least held-out accuracy a reward model must have.
        min_spread: the least spread of its scores, in logits.
        gold: import path of a function that knows the truth, for the record only; nothing is learned from it.
        tokens_per_microbatch: tokens a forward pass holds at most.
        optimizer: how policy and value model are moved.
        adapters: train LoRA adapters on the frozen policy and value model; none trains them whole. The reference is then the policy with
            its adapter off, not a second copy.
    """

    model: ModelInput
    reward: Input
    prompts: Input
    limit: Count | None = None
    steps: Count = 12
    prompts_per_step: Count = 64
    samples_per_prompt: Count = 4
    passes: Count = 2
    minibatches: Count = 4
    sampling: Sampling = field(default_factory=Sampling)
    credit: Credit = field(default_factory=Values)
    objective: PolicyObjective = field(default_factory=PPOClip)
    kl: KLControl = field(default_factory=FixedKL)
    missing_end_reward: float = -1.0
    min_accuracy: float = 0.55
    min_spread: float = 0.05
    gold: str | None = None
    tokens_per_microbatch: Count = 8192
    optimizer: AdamW = field(default_factory=lambda: AdamW(lr=1e-5, eps=1e-5, warmup=0.0))
    adapters: LoRA | None = None

    def check(self) -> None:
        """Checks that what is sampled is what is learned from, and that siblings exist."""
        if self.sampling.top_k or self.sampling.top_p < 1 or self.sampling.min_p:
            raise ConfigError(
                "sampling.top_k, sampling.top_p and sampling.min_p cut the distribution, and then ratios would be of another one: "
                "leave them at 0, 1 and 0"
            )
        if not self.sampling.temperature > 0:
            raise ConfigError(f"sampling.temperature must be above 0 to explore, got {self.sampling.temperature}")
        if isinstance(self.credit, Siblings) and self.samples_per_prompt < 2:
            raise ConfigError(
                "credit siblings compares completions of one prompt: set samples_per_prompt to 2 or more, or credit to values"
            )
        if self.minibatches > self.prompts_per_step:
            raise ConfigError(
                f"minibatches {self.minibatches} exceeds prompts_per_step {self.prompts_per_step}: a prompt's completions stay together"
            )

    def run(self, run: Run) -> None:
        """Trains the policy and saves it as `model/`; the last value model as `value/`."""
        reward_path = model_at(self.reward)
        card = Card.read_from(reward_path)
        if card is not None:
            card.require_trust(self.min_accuracy, self.min_spread)
        loop = _Loop(self, run, LearnedReward.load(reward_path))
        loop.restore()
        saved = time.monotonic()
        with run.progress(self.steps, "online") as advance:
            advance(loop.step)
            while loop.step < self.steps:
                metrics = loop.turn()
                run.log(loop.step - 1, metrics)
                advance(1, f"score {metrics['online/score/mean']:+.2f}  kl {metrics['online/kl/mean']:.1f}")
                if time.monotonic() - saved > CHECKPOINT_SECONDS or run.stop_requested:
                    loop.save()
                    saved = time.monotonic()
                run.check_stop()
        keep_model(run, trained(run, loop.policy, self.adapters, loop.learner), self.adapters)
        if loop.value is not None:
            loop.value.merged().save(run.directory / "value")
        run.summary({"card": None if card is None else vars(card), "kl_coef": loop.kl_coef, "last": loop.last})


class _Loop:
    """The state of online training: policy, reference, reward and value model, learner, KL coefficient, step."""

    def __init__(self, config: Online, run: Run, reward: LearnedReward) -> None:
        self.config, self.run, self.reward = config, run, reward
        base = model_at(config.model)
        self.policy = trainable(run, load_policy(base), base, config.adapters)
        self.reference = self.policy.reference()
        if reward.model.tokenizer.get_vocab() != self.policy.tokenizer.get_vocab():
            raise ConfigError(
                f"the reward model {config.reward} and the policy {config.model} have different tokenizers; "
                "train the reward model from the policy's base"
            )
        self.value: ScalarModel | None = None
        modules = {"policy": self.policy.module}
        if isinstance(config.credit, Values):
            value = scalar_from(reward.model, ("value",), seed=0, zero=True)
            self.value = trainable(run, value, model_at(config.reward), config.adapters)
            modules["value"] = self.value.module
        self.sampler = LocalSampler(self.policy)
        self.prompts = fitting(run, prompts_at(run, config.prompts, config.limit), self.policy, config.sampling.max_tokens)
        self.trunks = [prompt_ids(self.policy.tokenizer, prompt) for prompt in self.prompts]
        self.learner = Learner(modules, config.optimizer, config.steps * config.passes * min(config.minibatches, config.prompts_per_step))
        self.gold = None if config.gold is None else load_function(config.gold)
        self.kl_coef = config.kl.start()
        self.step = 0
        self.last: dict[str, float] = {}

    def restore(self) -> None:
        """Goes on from the last checkpoint, where there is one."""
        numbers = self.learner.load(self.run.state / "learner")
        if numbers is not None:
            self.step, self.kl_coef = int(str(numbers["step"])), float(str(numbers["kl_coef"]))
            self.last = cast("dict[str, float]", numbers["last"])
        self.run.rewind(self.step)

    def save(self) -> None:
        """Writes a checkpoint."""
        self.learner.save(self.run.state / "learner", {"step": self.step, "kl_coef": self.kl_coef, "last": self.last})

    def turn(self) -> dict[str, float]:
        """One round; returns its metrics."""
        chosen = self.prompt()
        rollouts = self.sample(chosen)
        scored = self.score(rollouts)
        credited = self.credit(scored)
        learned = self.learn(credited)
        return self.record(credited, learned)

    def prompt(self) -> list[int]:
        """Numbers of this round's prompts: a new permutation each time the list is used up."""
        count, start = len(self.prompts), self.step * self.config.prompts_per_step
        chosen = []
        for place in range(start, start + self.config.prompts_per_step):
            epoch, k = divmod(place, count)
            chosen.append(int(np.random.default_rng([derive_seed(self.run.seed, "prompts"), epoch]).permutation(count)[k]))
        return chosen

    def sample(self, chosen: Sequence[int]) -> roll.Rollouts:
        """Completions of the policy as it stands."""
        trunks = [self.trunks[k] for k in chosen]
        seed = derive_seed(self.run.seed, "rollouts", self.step)
        groups = self.sampler.sample(trunks, self.config.samples_per_prompt, self.config.sampling, seed)
        ids = [sample.ids for group in groups for sample in group]
        texts = [text.strip() for text in self.policy.tokenizer.batch_decode(ids, skip_special_tokens=True)]
        return roll.gather([self.prompts[k] for k in chosen], trunks, groups, texts)

    def score(self, rollouts: roll.Rollouts) -> roll.Scored:
        """What reference, reward model and value model say."""
        scores = self.reward.score_trees(rollouts.trees)
        rewards = torch.where(rollouts.ended, scores.sum(1), torch.tensor(self.config.missing_end_reward))
        batch = pack(rollouts.trees)
        with torch.no_grad():
            reference = self.reference.logps(batch, temperature=self.config.sampling.temperature).logps
            values = torch.zeros_like(reference) if self.value is None else self.value.values(batch)[:, 0].float()
        return roll.Scored(rollouts, reference, scores, rewards, values)

    def credit(self, scored: roll.Scored) -> roll.Credited:
        """Advantages and returns of every token, with the KL penalty in the reward."""
        match self.config.credit:
            case Values(gamma=gamma, lam=lam):
                return roll.credit_by_values(scored, self.kl_coef, gamma, lam)
            case Siblings():
                return roll.credit_by_siblings(scored, self.kl_coef)

    def learn(self, credited: roll.Credited) -> dict[str, float]:
        """Passes over the batch; returns the first step's metrics as `first` and the last one's."""
        trees = len(credited.scored.rollouts.trees)
        first: dict[str, float] = {}
        metrics: dict[str, float] = {}
        for number in range(self.config.passes):
            order = np.random.default_rng([derive_seed(self.run.seed, "passes", self.step), number]).permutation(trees).tolist()
            for batch in roll.minibatches(credited, order, self.config.minibatches):
                parts = roll.micro(batch, microbatches(batch.trees, self.config.tokens_per_microbatch))
                metrics = self.learner.step(parts, self._loss)
                first = first or metrics
        self._require_identity(first)
        metrics = self._with_explained_variance(metrics)
        return {**metrics, "first_ratio/mean": first["ratio/mean"], "first_log_ratio/max": first["log_ratio/max"]}

    def _loss(self, batch: roll.Minibatch) -> Sums:
        packed = pack(batch.trees)
        now = self.policy.logps(packed, temperature=self.config.sampling.temperature)
        every = torch.ones_like(batch.logps, dtype=torch.bool)
        sums = self.config.objective(PolicyTokens(now.logps, batch.logps, batch.advantages, every))
        metrics = {**sums.metrics, "entropy": (now.entropy.sum(), sums.count)}
        loss = sums.loss
        if isinstance(self.config.credit, Values) and self.value is not None:
            told = self.value.values(packed)[:, 0].float()
            value = self.config.credit.objective(ValueTokens(told, batch.values, batch.returns, every))
            loss = loss + self.config.credit.coefficient * value.loss
            metrics |= {f"value_{name}": ratio for name, ratio in value.metrics.items()}
        return Sums(loss, sums.count, metrics)

    def _with_explained_variance(self, metrics: dict[str, float]) -> dict[str, float]:
        """The metrics with the value model's explained variance in place of the sums that it is made of."""
        parts = {name: metrics.pop(f"value_{name}/mean") for name in EXPLAINED_BY if f"value_{name}/mean" in metrics}
        explained = explained_variance(parts) if parts else math.nan
        return metrics if math.isnan(explained) else {**metrics, "value_explained/share": explained}

    def _require_identity(self, first: dict[str, float]) -> None:
        """Before anything was learned from a batch, the policy that learns is the one that sampled: every ratio is 1."""
        if first["log_ratio/max"] > 1e-2:
            raise TrainingError(
                f"step {self.step}: sampler and learner disagree by up to {first['log_ratio/max']:.2e} nats a token before any update: "
                "ratios would be of another distribution. Look at temperature, padding and precision"
            )

    def record(self, credited: roll.Credited, learned: dict[str, float]) -> dict[str, float]:
        """The round's metrics; moves the KL coefficient and the step on."""
        scored, config = credited.scored, self.config
        rollouts, kl = scored.rollouts, float(scored.kl.mean())
        metrics = {
            "score/mean": float(scored.scores.sum(1).mean()),
            "score/sd": float(scored.scores.sum(1).std()),
            "reward/mean": float(scored.rewards.mean()),
            "kl/mean": kl,
            "kl_k3/mean": float(scored.kl_k3.mean()),
            "kl_coef/value": self.kl_coef,
            "length/mean": float(rollouts.lengths.float().mean()),
            "ended/share": float(rollouts.ended.float().mean()),
            **{f"score_{name}/mean": float(scored.scores[:, k].mean()) for k, name in enumerate(self.reward.model.heads)},
            **learned,
        }
        if self.gold is not None:
            each = [prompt for prompt, tree in zip(rollouts.prompts, rollouts.trees, strict=True) for _ in tree.branches]
            axes = [self.gold(prompt.text, text, **prompt.fields) for prompt, text in zip(each, rollouts.texts, strict=True)]
            means = [sum(found.values()) / len(found) for found in axes]
            metrics |= {"gold/mean": float(np.mean(means)), "gold/se": float(np.std(means) / len(means) ** 0.5)}
        self.kl_coef = config.kl.next_coef(self.kl_coef, kl, len(rollouts.ended))
        self.step += 1
        self.last = metrics
        return {f"online/{name}": value for name, value in metrics.items()}

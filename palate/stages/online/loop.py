"""The loop of online training. Every round does six things: prompt, sample, score, credit, learn, record."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from palate.config.artifacts import model_at
from palate.config.functions import load_function
from palate.core import Prompt, TrainingError, derive_seed
from palate.models.adapters import base_of
from palate.models.causal import CausalPolicy
from palate.models.load import DTYPES, load_policy
from palate.models.scalar import ScalarModel, load_scalar, scalar_from
from palate.models.shared import share_frozen
from palate.objectives.kl import BudgetKL, KLState
from palate.objectives.reduce import Sums
from palate.rewards.batch import completions_of
from palate.rewards.composition import Composition, RewardPart, Scores
from palate.rewards.learned import LearnedReward
from palate.runs.run import Run
from palate.samplers.prompts import fitting, prompts_at
from palate.stages.online.algorithm import Algorithm, AlgorithmContext, TrainingBatch
from palate.stages.online.pretraining import Texts
from palate.stages.online.rollout_sampler import RolloutSampler
from palate.stages.online.rollouts import Rollouts, Scored, over_trees
from palate.training.guards import repetition
from palate.training.keep import BestReward, HeldOut, HeldOutMeasurement, Search
from palate.training.learner import Learner
from palate.training.model_io import trainable

if TYPE_CHECKING:
    from palate.stages.online.stage import Online


class Loop:
    """The state of online training: policy, reference, rewards, what learns beside the policy, learner, price of KL, place."""

    def __init__(self, config: Online, run: Run, parts: Mapping[str, RewardPart]) -> None:
        self.config, self.run = config, run
        base = model_at(config.model)
        self.policy = trainable(run, load_policy(base), base, config.adapters)
        self.reference = self.policy.reference()
        self.rewards = Composition.load(
            parts,
            self.policy.tokenizer,
            locate=model_at,
            max_failed=config.reward_requirements.max_failed,
            merge_adapters=config.adapters is None,
        )
        seat = AlgorithmContext(
            run=run,
            policy=self.policy,
            value_model=partial(self._value_model, base),
            kl=config.kl,
            temperature=config.sampling.temperature,
            dtype=config.dtype,
            tokens_per_microbatch=config.tokens_per_microbatch,
            correction=config.sampler.correction,
        )
        self.student: Algorithm[Any] = config.method.student(seat)
        self.prompts = self._prompts(config.prompts, config.limit)
        steps = config.iterations * config.epochs_per_batch * min(config.minibatches, config.prompts_per_iteration)
        modules = {"policy": self.policy.module, **self.student.modules}
        self.learner = Learner(modules, config.optimizer, steps, dtype=DTYPES[config.dtype])
        self.reference.module.to(DTYPES[config.dtype])
        self._share()
        self.drawer = RolloutSampler(
            self.policy, config.samples_per_prompt, config.sampling, run.seed, is_ahead=bool(config.sampler.asynchronous)
        )
        self.texts = None if config.pretraining is None else Texts(config.pretraining, run, self.policy, config.tokens_per_microbatch)
        self.held_out = None if config.held_out.reward is None else LearnedReward.load(model_at(config.held_out.reward))
        self.examined = [] if config.held_out.prompts is None else self._prompts(config.held_out.prompts, config.held_out.limit)
        held = HeldOut(config.keep, self.examine) if isinstance(config.keep, BestReward) else None
        self.search = Search(held, self.learner, run.state / "best", 1, config.iterations)
        self.gold = None if config.gold is None else load_function(config.gold)
        self.kl = config.kl.control.start()
        self.step = 0
        self.drawn = 0
        """Prompts taken so far."""
        self.last: dict[str, float] = {}

    def restore(self) -> None:
        """Goes on from the last checkpoint, where there is one."""
        numbers = self.learner.load(self.run.state / "learner")
        if numbers is not None:
            self.step, self.drawn = int(str(numbers["step"])), int(str(numbers["drawn"]))
            self.kl = KLState(**cast("dict[str, Any]", numbers["kl"]))
            self.rewards.restore(cast("dict[str, float]", numbers["rewards"]))
            self.drawer.restore(numbers["ahead"])
            self.search.restore(numbers)
            self.last = cast("dict[str, float]", numbers["last"])
        self.run.rewind(self.step)

    def save(self) -> None:
        """Writes a checkpoint."""
        place = {"step": self.step, "drawn": self.drawn, "kl": vars(self.kl), "last": self.last}
        parts = {"rewards": self.rewards.state(), "ahead": self.drawer.state(), "search": self.search.state}
        self.learner.save(self.run.state / "learner", {**place, **parts})

    def finish(self) -> dict[str, float]:
        """Puts the best weights back, where they were looked for, and lets go of what runs beside; figures for the summary."""
        self.rewards.close()
        self.drawer.close()
        return self.search.finish()

    def iterate(self) -> dict[str, float]:
        """One round; returns its metrics."""
        scored, told = self.groups()
        kl = self.kl
        self.kl = self.config.kl.control.after(kl, float(scored.kl.mean()), len(scored.rewards))
        learned = {} if self._is_spent() else self.learn(self.credit(scored, kl.coef))
        found = {} if self.kl.is_spent else self.search.look(self.step + 1)
        return self.record(scored, told, kl.coef, {**learned, **found})

    def groups(self) -> tuple[Scored, dict[str, float]]:
        """A round's prompts, sampled and scored; further ones in place of those that teach nothing, where that is asked for."""
        wanted = self.config.prompts_per_iteration
        found, told = self._sampled(wanted)
        if not self.config.sampler.resample:
            return found, told
        kept = found.of((~found.flat).nonzero()[:, 0].tolist())
        rounds = 1
        while len(kept.rollouts.trees) < wanted and rounds <= self.config.sampler.resample:
            more, _ = self._sampled(wanted)
            kept = Scored.joined([kept, more.of((~more.flat).nonzero()[:, 0].tolist())])
            rounds += 1
        if not kept.rollouts.trees:
            raise TrainingError(
                f"step {self.step}: the completions of every prompt got the same reward, {rounds} times: there is nothing to tell apart. "
                "Look at the rewards, or raise samples_per_prompt"
            )
        return kept.of(range(min(wanted, len(kept.rollouts.trees)))), {**told, "resampled/count": float(rounds - 1)}

    def _sampled(self, count: int) -> tuple[Scored, dict[str, float]]:
        return self.score(self.sample(self.prompt(count)))

    def prompt(self, count: int) -> list[int]:
        """Numbers of the next prompts: a new permutation each time the list is used up."""
        self.drawn += count
        return self.places(self.drawn - count, count)

    def places(self, start: int, count: int) -> list[int]:
        """Numbers of the prompts from place `start` on."""
        size, chosen = len(self.prompts), []
        for place in range(start, start + count):
            epoch, k = divmod(place, size)
            chosen.append(int(np.random.default_rng([derive_seed(self.run.seed, "prompts"), epoch]).permutation(size)[k]))
        return chosen

    def sample(self, chosen: Sequence[int]) -> Rollouts:
        """Completions of the policy as it stands; of the round before, where sampling runs ahead."""
        prompts = [self.prompts[k] for k in chosen]
        following = [self.prompts[k] for k in self.places(self.drawn, len(chosen))]
        return self.drawer.draw(prompts, following, self.drawn // len(chosen) - 1)

    def score(self, rollouts: Rollouts) -> tuple[Scored, dict[str, float]]:
        """What rewards, reference and value model say; and the rewards' metrics."""
        groups = completions_of(rollouts.trees, rollouts.texts, rollouts.ended)
        scores = self.rewards.score(rollouts.prompts, groups, rollouts.trees)
        rewards = self.config.shaping(scores.rewards, rollouts.ended, rollouts.lengths)
        reference, values, again = self._logps(self.reference, rollouts), None, None
        if self.student.values is not None:
            values = over_trees(rollouts.trees, self.config.tokens_per_microbatch, self.student.values)
        if self.config.sampler.correction is not None:
            again = self._logps(self.policy, rollouts)
        told = self._told(scores)
        if self.held_out is not None:
            other = self.held_out.score_trees(rollouts.trees).sum(1)
            told |= {"held_out_score/mean": float(other.mean()), "held_out_score/se": float(other.std() / len(other) ** 0.5)}
        return Scored(rollouts, reference, scores.rewards, rewards, values, again), told

    def examine(self) -> HeldOutMeasurement:
        """Reward and KL of the policy's completions of held-out prompts, one each, drawn with the same numbers every time."""
        rollouts = self.drawer.now(self.examined, 1, derive_seed(self.run.seed, "held_out"))
        reference = self._logps(self.reference, rollouts)
        if self.held_out is not None:
            scores = self.held_out.score_trees(rollouts.trees).sum(1)
        else:
            groups = completions_of(rollouts.trees, rollouts.texts, rollouts.ended)
            scores = self.rewards.score(rollouts.prompts, groups, rollouts.trees, update=False).rewards
        rewards = self.config.shaping(scores, rollouts.ended, rollouts.lengths)
        return HeldOutMeasurement.of_reward(float(rewards.nanmean()), float((rollouts.logps - reference).sum() / len(rewards)))

    def credit(self, scored: Scored, kl_coef: float) -> TrainingBatch[Any]:
        """What is to be learned of it."""
        return self.student.lesson(scored, kl_coef)

    def learn(self, lesson: TrainingBatch[Any]) -> dict[str, float]:
        """Passes over the round; returns the last step's metrics, and of the first what tells whether the sampler was the learner."""
        first: dict[str, float] = {}
        metrics: dict[str, float] = {}
        for number in range(self.config.epochs_per_batch):
            order = np.random.default_rng([derive_seed(self.run.seed, "passes", self.step), number]).permutation(lesson.units).tolist()
            for k in range(self.config.minibatches):
                metrics = self._step(lesson, order[k :: self.config.minibatches]) or metrics
                if metrics and not first:
                    first = metrics
                    if not self.drawer.age:
                        self.student.check(self.step, first)
        told = {f"first_{name}": first[name] for name in ("ratio/mean", "log_ratio/max") if name in first}
        return {**self.student.summarised(metrics), **told, **lesson.metrics}

    def _step(self, lesson: TrainingBatch[Any], chosen: Sequence[int]) -> dict[str, float]:
        """One optimizer step on some units; nothing where they hold nothing to learn."""
        parts = lesson.parts(chosen) if chosen else []
        total = sum(lesson.count(part) for part in parts)
        if not total:
            return {}
        jobs: list[Callable[[], Sums]] = [loss for part in parts for loss in lesson.losses(part)]
        beside = [] if self.texts is None else self.texts.jobs(self.learner.steps_done, total)
        return self.learner.step([*jobs, *beside], operator.call)

    def record(self, scored: Scored, told: Mapping[str, float], kl_coef: float, learned: Mapping[str, float]) -> dict[str, float]:
        """The round's metrics; moves the step on."""
        rollouts, scores, rewards = scored.rollouts, scored.scores[~scored.scores.isnan()], scored.rewards[~scored.rewards.isnan()]
        metrics = {
            **({"score/mean": float(scores.mean())} if len(scores) else {}),
            **({"score/sd": float(scores.std())} if len(scores) > 1 else {}),
            **({"reward/mean": float(rewards.mean())} if len(rewards) else {}),
            "flat_groups/share": float(scored.flat.float().mean()),
            "kl/mean": float(scored.kl.mean()),
            "kl_k3/mean": float(scored.kl_k3.mean()),
            "kl_token/mean": float(scored.kl.sum() / len(scored.reference_logps)),
            "kl_k3_token/mean": float(scored.kl_k3.sum() / len(scored.reference_logps)),
            "kl_coef/value": kl_coef,
            "length/mean": float(rollouts.lengths.float().mean()),
            "staleness/mean": float(rollouts.age),
            "eos/share": float(rollouts.ended.float().mean()),
            "repetition/mean": repetition([branch.ids for tree in rollouts.trees for branch in tree.branches]),
            **told,
            **learned,
        }
        if self.gold is not None:
            each = [prompt for prompt, tree in zip(rollouts.prompts, rollouts.trees, strict=True) for _ in tree.branches]
            dimensions = [self.gold(prompt.text, text, **prompt.fields) for prompt, text in zip(each, rollouts.texts, strict=True)]
            means = [sum(found.values()) / len(found) for found in dimensions]
            metrics |= {"gold/mean": float(np.mean(means)), "gold/se": float(np.std(means) / len(means) ** 0.5)}
        self.step += 1
        self.last = metrics
        return {f"online/{name}": value for name, value in metrics.items()}

    def _logps(self, policy: CausalPolicy, rollouts: Rollouts) -> Tensor:
        """(n,) log-probabilities of what was sampled, nats, of the distribution at the sampling temperature."""
        temperature = self.config.sampling.temperature
        return over_trees(
            rollouts.trees, self.config.tokens_per_microbatch, lambda batch: policy.logps(batch, temperature=temperature).logps
        )

    def _told(self, scores: Scores) -> dict[str, float]:
        """The rewards' metrics; of a single part by the names of its dimensions."""
        metrics = scores.metrics()
        if len(scores.parts) > 1:
            return metrics
        (name,) = scores.parts
        return {key.replace(f"score_{name}_", "score_"): value for key, value in metrics.items() if not key.startswith("part_")}

    def _is_spent(self) -> bool:
        """Whether the policy that sampled is beyond the budget of KL; the weights of the round before are then put back.

        Until then the weights that sampled are kept, before anything is learned with them.
        """
        if not isinstance(self.config.kl.control, BudgetKL):
            return False
        within = self.run.state / "within"
        if not self.kl.is_spent:
            self.learner.save(within, {})
        elif self.learner.load(within) is None:
            raise TrainingError(
                f"step {self.step}: the policy is beyond the budget of KL before it learned anything: raise kl.control.nats"
            )
        return self.kl.is_spent

    def _prompts(self, path: str, limit: int | None) -> list[Prompt]:
        """Prompts that leave room for a completion."""
        return fitting(self.run, prompts_at(self.run, path, limit), self.policy, self.config.sampling.max_tokens)

    def _value_model(self, base: str) -> ScalarModel:
        """A value model ready to learn, from the first reward model of the policy's tokenizer, else from the policy.

        Where that reward model is an adapter, so is the value model, on the same base; it starts with the reward model's matrices.
        """
        vocabulary, adapters = self.policy.tokenizer.get_vocab(), self.config.adapters
        found = [(path, reward.model) for path, reward in self.rewards.models.items() if reward.model.tokenizer.get_vocab() == vocabulary]
        place, source = (model_at(found[0][0]), found[0][1]) if found else (base, None)
        if source is not None and source.adapters is not None:
            below, _ = base_of(place)
            value = trainable(self.run, scalar_from(below, ("value",), seed=0, zero=True), below, adapters)
            if value.adapters is not None and value.adapters.start_as(source.adapters):
                return value
            source = None  # of another rank, or on other layers: it cannot go on from there, but the two together can be its base
        start = (load_scalar(place) if found else load_policy(place)) if source is None else source
        return trainable(self.run, scalar_from(start, ("value",), seed=0, zero=True), place, adapters)

    def _share(self) -> None:
        """Under adapters, models on the policy's base hold it once. Reward models beside their base compute in the policy's type."""
        if self.config.adapters is None:
            return
        rewards = [reward.model for reward in self.rewards.models.values()]
        for model in rewards:
            if model.adapters is not None:
                model.module.to(DTYPES[self.config.dtype])
        learning = [module for module in self.learner.modules.values() if isinstance(module, PreTrainedModel)]
        share_frozen(*learning, *(model.module for model in rewards))

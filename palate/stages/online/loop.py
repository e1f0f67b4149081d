"""The loop of online training. Every iteration does six things: prompt, sample, score, credit, learn, record."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
from torch import Tensor

from palate.config.artifacts import model_at
from palate.config.functions import load_gold
from palate.core import Prompt, TrainingError, derive_seed
from palate.data.data_sources import DataInput
from palate.distributed.ranks import from_writer
from palate.models.causal import CausalPolicy
from palate.models.precision import dtype_of
from palate.objectives.kl import BudgetKL, KLState
from palate.objectives.reduce import Sums
from palate.rewards.composition import Composition
from palate.runs.run import Run
from palate.samplers.prompts import fitting, prompts_at
from palate.stages.online.algorithm import Algorithm, AlgorithmContext, TrainingBatch
from palate.stages.online.measurements import held_out_metrics, held_out_scores, load_held_out, reward_metrics, say_limit, within_budget
from palate.stages.online.online_settings import OnlineSettings
from palate.stages.online.people_checks import PeopleChecks
from palate.stages.online.pretraining import Texts
from palate.stages.online.roles import FrozenModels, learning_policy, make_alike, new_value_model, reference_of
from palate.stages.online.rollout_sampler import RolloutSampler
from palate.stages.online.rollouts import Rollouts, Scored, over_trees
from palate.stages.online.score_metrics import gold_metrics, rewards_by_source, score_metrics, win_rate_metrics, written_metrics
from palate.stages.online.start_pairs import StartPairs
from palate.training.epochs import mixture_of, series
from palate.training.keep import BestReward, HeldOut, HeldOutMeasurement, Search
from palate.training.learner import Learner
from palate.training.measured_weights import MeasuredWeights


class Loop:
    """The state of online training: the models, the rewards, the algorithm, the learner, the price of KL, and the iteration."""

    def __init__(self, config: OnlineSettings, run: Run) -> None:
        self.config, self.run = config, run
        base, dtype = model_at(config.model), dtype_of(config.dtype)
        self.policy = learning_policy(run, base, config.adapters)
        self.reference = reference_of(self.policy, base, config.kl.reference)
        self.rewards = Composition.load(
            config.reward_parts(),
            self.policy.tokenizer,
            max_failed=config.reward_requirements.max_failed,
            adapters=config.adapters,
            run=run,
        )
        context = AlgorithmContext(
            run=run,
            policy=self.policy,
            value_model=partial(new_value_model, run, self.policy, base, self.rewards.models, config.adapters),
            kl=config.kl,
            temperature=config.sampling.temperature,
            max_tokens=config.sampling.max_tokens,
            dtype=dtype,
            tokens_per_microbatch=config.tokens_per_microbatch,
            correction=config.sampler.correction,
        )
        self.algorithm: Algorithm[Any] = config.method.algorithm(context)
        self.prompts = self._prompts(config.prompts, config.limit)
        self.mixture = mixture_of(run, [prompt.source_name for prompt in self.prompts], config.prompts)
        steps = config.iterations * config.epochs_per_batch * min(config.minibatches, config.prompts_per_iteration)
        modules = {"policy": self.policy.module, **self.algorithm.modules}
        self.learner = Learner(modules, config.optimizer, steps, dtype=dtype)
        scorers, learned = list(self.rewards.models.values()), self.learner.modules.values()
        make_alike([self.reference.module, *(one.model.module for one in scorers)], learned, dtype, shares_base=config.adapters is not None)
        self.held_out_reward = load_held_out(config.held_out.reward, self.policy.tokenizer, config.dtype)
        scorers += [] if self.held_out_reward is None else [self.held_out_reward]
        self.frozen = FrozenModels(self.reference, scorers, learned, offload=config.offload)
        engine, is_early = config.sampler.open(self.policy, run), bool(config.sampler.asynchronous)
        self.sampler = RolloutSampler(self.policy, engine, config.samples_per_prompt, config.sampling, run.seed, is_asynchronous=is_early)
        self.texts = None if config.pretraining is None else Texts(config.pretraining, run, self.policy, config.tokens_per_microbatch)
        self.held_out_prompts = [] if (path := config.held_out.prompts) is None else self._prompts(path, config.held_out.limit)
        self.rewards.check_prompts([*self.prompts, *(self.held_out_prompts if self.held_out_reward is None else [])])
        searched = HeldOut(within_budget(config.keep, config.kl), self.measure_held_out) if isinstance(config.keep, BestReward) else None
        self.search = Search(searched, self.learner, run.state / "best", 1, config.iterations)
        has_limits = isinstance(config.kl.control, BudgetKL) or config.guards.can_stop
        self.weights = MeasuredWeights(self.learner, run.state / "weights") if has_limits else None
        models = self.reference, self.frozen, self.rewards, config.reward_parts(), self.held_out_reward
        self.people = PeopleChecks(config.held_out.people, run, self.learner, StartPairs(*models, config.sampling, run.seed))
        self.gold = None if config.gold is None else load_gold(config.gold)
        self.kl, self.shaping = config.kl.control.start(), config.shaping.within(config.sampling.max_tokens)
        self.iteration = self.prompts_taken = self.measured = 0  # `measured` is the iteration whose first weights sampled last
        say_limit(run, config.shaping.overlong, self.shaping.overlong)
        self.last_metrics: dict[str, float] = {}

    def iterate(self) -> dict[str, float]:
        """Run one iteration and return its metrics."""
        scored, metrics = self.score(self.sample(self.prompt(self.config.prompts_per_iteration)))
        drawn = scored.rollouts
        if self.config.sampler.resample:
            scored, metrics = self.resample(scored, metrics)
        kl = self.price(scored)
        judged = {} if self.kl.is_spent else self.people.after_scoring(self.iteration, drawn)
        is_over = self.kl.is_spent or self.people.is_over
        learned = {} if is_over else {**self.learn(self.credit(scored, kl.coef)), **self.search.look(self.iteration + 1)}
        return self.record(scored, kl.coef, {**metrics, **learned}, judged)

    def prompt(self, count: int) -> list[int]:
        """Take the next prompts and return their numbers; they come in a new permutation each time the list is used up."""
        self.prompts_taken += count
        return self.prompts_from(self.prompts_taken - count, count)

    def prompts_from(self, start: int, count: int) -> list[int]:
        """Return the numbers of the `count` prompts after the first `start` ones."""
        return series(derive_seed(self.run.seed, "prompts"), len(self.prompts), self.mixture, start, count)

    def sample(self, numbers: Sequence[int]) -> Rollouts:
        """Return completions by the policy as it stands; with asynchronous sampling, by the policy of the iteration before."""
        prompts = [self.prompts[k] for k in numbers]
        next_prompts = [self.prompts[k] for k in self.prompts_from(self.prompts_taken, len(numbers))]
        return self.sampler.draw(prompts, next_prompts, self.prompts_taken // len(numbers) - 1)

    def score(self, rollouts: Rollouts) -> tuple[Scored, dict[str, float]]:
        """Return the rollouts with what reward, reference and value model give for them; and the metrics of the reward."""
        self.frozen.expect_reference()
        scores = self.rewards.score(rollouts.prompts, rollouts.groups, rollouts.trees)
        rewards = self.shaping(scores.rewards, rollouts.ended, rollouts.lengths)
        reference_logps, values, learner_logps = self._logps(self.reference, rollouts), None, None
        if self.algorithm.values is not None:
            values = over_trees(rollouts.trees, self.config.tokens_per_microbatch, self.algorithm.values)
        if self.config.sampler.correction is not None:
            learner_logps = self._logps(self.policy, rollouts)
        metrics = {**reward_metrics(scores), **win_rate_metrics(scores, rollouts), **self.shaping.metrics(scores.rewards, rollouts.ended)}
        if self.held_out_reward is not None:
            metrics |= held_out_metrics(self.held_out_reward, rollouts, self.config.held_out.completions)
        return Scored(rollouts, reference_logps, scores.rewards, rewards, values, learner_logps, scores.added), metrics

    def resample(self, scored: Scored, metrics: Mapping[str, float]) -> tuple[Scored, dict[str, float]]:
        """Replace prompts whose completions all got the same reward by further ones, `resample` times at most (DAPO)."""
        wanted, draws = self.config.prompts_per_iteration, 1
        scored = scored.without_flat()
        while len(scored.rollouts.groups) < wanted and draws <= self.config.sampler.resample:
            more, _ = self.score(self.sample(self.prompt(wanted)))
            scored = Scored.joined([scored, more.without_flat()])
            draws += 1
        if not scored.rollouts.groups:
            raise TrainingError(
                f"iteration {self.iteration}: the completions of every prompt got the same reward, {draws} times, so there is nothing to "
                "compare. Check the rewards, or raise samples_per_prompt"
            )
        scored = scored.of(range(min(wanted, len(scored.rollouts.groups))))
        return scored, {**metrics, "resampled/count": float(draws - 1)}

    def price(self, scored: Scored) -> KLState:
        """Return the price of KL for these completions, and set that of the next ones. Weights within all limits are kept."""
        kl, self.kl = self.kl, self.config.kl.control.after(self.kl, float(scored.kl.mean()), len(scored.rewards))
        self.measured = self.iteration - scored.rollouts.age
        self._keep_weights()
        return kl

    def credit(self, scored: Scored, kl_coef: float) -> TrainingBatch[Any]:
        """Return what the policy learns from: tokens with their advantages, pairs, or the best completions."""
        return self.algorithm.batch(scored, kl_coef)

    def learn(self, batch: TrainingBatch[Any]) -> dict[str, float]:
        """Train on the batch; return the last step's metrics, and of the first step those that compare sampler and learner."""
        first, metrics = dict[str, float](), dict[str, float]()
        for epoch in range(self.config.epochs_per_batch):
            order = np.random.default_rng([derive_seed(self.run.seed, "passes", self.iteration), epoch]).permutation(batch.units).tolist()
            for k in range(self.config.minibatches):
                metrics = self._step(batch, order[k :: self.config.minibatches]) or metrics
                if metrics and not first:
                    first = metrics
                    if not self.sampler.age:
                        self.algorithm.check_first_step(self.iteration, first)
        first_metrics = {f"first_{name}": first[name] for name in ("ratio/mean", "log_ratio/max") if name in first}
        return {**self.algorithm.logged(metrics), **first_metrics, **batch.metrics}

    def record(
        self, scored: Scored, kl_coef: float, metrics: Mapping[str, float], of_people: Mapping[str, float] | None = None
    ) -> dict[str, float]:
        """Return the iteration's metrics under their full names, which those of people have, and move on to the next iteration."""
        rollouts = scored.rollouts
        logged = {
            **score_metrics(scored),
            **({"flat_groups/share": float(scored.flat.float().mean())} if self.config.has_flat_groups else {}),
            "kl/mean": float(scored.kl.mean()),
            "kl_k3/mean": float(scored.kl_k3.mean()),
            "kl_token/mean": float(scored.kl.sum() / len(scored.reference_logps)),
            "kl_k3_token/mean": float(scored.kl_k3.sum() / len(scored.reference_logps)),
            "kl_coef/value": kl_coef,
            **written_metrics(rollouts),
            **metrics,
        }
        if self.gold is not None:
            logged |= from_writer(partial(gold_metrics, self.gold, rollouts))
        self.iteration += 1
        self.last_metrics = logged
        return {**{f"online/{name}": value for name, value in logged.items()}, **(of_people or {})}

    def measure_held_out(self) -> HeldOutMeasurement:
        """Measure reward and KL on one completion per held-out prompt, drawn with the same seed every time."""
        rollouts = self.sampler.draw_apart(self.held_out_prompts, 1, derive_seed(self.run.seed, "held_out"))
        kl = float((rollouts.logps - self._logps(self.reference, rollouts)).sum() / len(rollouts.completions))
        if self.held_out_reward is not None:
            scores = held_out_scores(self.held_out_reward, rollouts)
        else:
            scores = self.rewards.score(rollouts.prompts, rollouts.groups, rollouts.trees, update=False).rewards
        rewards = self.shaping(scores, rollouts.ended, rollouts.lengths)
        return HeldOutMeasurement.of_reward(float(rewards.nanmean()), kl, rewards_by_source(rollouts, rewards))

    def restore(self) -> None:
        """Go on from the last checkpoint, where there is one."""
        numbers = self.learner.load(self.run.state / "learner")
        if numbers is not None:
            self.iteration, self.prompts_taken = int(str(numbers["iteration"])), int(str(numbers["prompts_taken"]))
            self.kl = KLState(**cast("dict[str, Any]", numbers["kl"]))
            self.rewards.restore(cast("dict[str, float]", numbers["rewards"]))
            self.sampler.restore(numbers["sampler"])
            self.search.restore(numbers)
            if self.weights is not None and "good_weights" in numbers:
                self.weights.restore(numbers, self.iteration)
            self.last_metrics = cast("dict[str, float]", numbers["last"])
        self.people.restore(self.iteration)
        self.run.rewind(self.iteration)

    def save(self) -> None:
        """Write a checkpoint."""
        place = {"iteration": self.iteration, "prompts_taken": self.prompts_taken, "kl": vars(self.kl), "last": self.last_metrics}
        parts = {"rewards": self.rewards.state(), "sampler": self.sampler.state(), "search": self.search.state}
        if self.weights is not None:
            parts["good_weights"] = self.weights.state(self.iteration)
        self.learner.save(self.run.state / "learner", {**place, **parts})

    def finish(self) -> dict[str, float]:
        """Close processes and threads, put the weights back that are to be kept, and return figures for the summary."""
        kept = self._end_within_budget()
        self.close()
        return {**kept, **self.search.finish()}

    def close(self) -> None:
        """Close processes and threads."""
        self.rewards.close()
        self.sampler.close()

    def accept(self) -> None:
        """Record that what was measured last is within all limits."""
        if self.weights is not None and not self.kl.is_spent:
            self.weights.accept(self.measured)

    def best_so_far(self) -> int | None:
        """Put the best weights of a run back that has to stop, and return how many iterations made them; None where there are none.

        These are the best on held-out prompts, else the last that were measured within all limits, else those of the last checkpoint.
        """
        if isinstance(self.config.keep, BestReward) and self.search.state["step"]:
            return int(self.search.finish()["best_step"])
        number = None if self.weights is None else self.weights.put_back()
        if number is not None:
            return number
        numbers = self.learner.load(self.run.state / "learner")
        return None if numbers is None else int(str(numbers["iteration"]))

    def _step(self, batch: TrainingBatch[Any], units: Sequence[int]) -> dict[str, float]:
        """Take one optimizer step on some units and return its metrics; they are empty where the units hold nothing to learn."""
        microbatches = batch.microbatches(units) if units else []
        total = sum(batch.count(microbatch) for microbatch in microbatches)
        if not total:
            return {}
        # One model after another, so that each is shared out evenly over ranks.
        losses: list[Callable[[], Sums]] = [loss for kind in zip(*map(batch.losses, microbatches), strict=True) for loss in kind]
        text_losses = [] if self.texts is None else self.texts.losses(self.learner.steps_done, total)
        return self.learner.step([*losses, *text_losses], operator.call)

    def _logps(self, policy: CausalPolicy, rollouts: Rollouts) -> Tensor:
        """Return the log-probabilities of the sampled tokens (n,) under `policy` at the sampling temperature, nats."""
        temperature, limit = self.config.sampling.temperature, self.config.tokens_per_microbatch
        with self.frozen.used(policy):
            return over_trees(rollouts.trees, limit, lambda batch: policy.logps(batch, temperature=temperature).logps)

    def _keep_weights(self) -> None:
        """Write the weights before anything is learned with them; or put the last ones within the KL budget back where it is spent."""
        if self.weights is None:
            return
        if not self.kl.is_spent:
            self.weights.save(self.iteration)
        elif self.weights.put_back() is None:
            raise TrainingError(
                f"iteration {self.iteration}: the policy is beyond the KL budget before it learned anything. Raise kl.control.nats"
            )

    def _end_within_budget(self) -> dict[str, float]:
        """Put weights back until the policy is within the KL budget, and return which, as a figure for the summary.

        Nothing has measured what the last iteration learned. And of many measurements the last one within the budget is likely to be too
        low, so the weights that are kept are measured again.
        """
        control = self.config.kl.control
        if self.weights is None or not isinstance(control, BudgetKL) or isinstance(self.config.keep, BestReward) or self.people.chooses:
            return {}
        kept = max(self.weights.good) if self.kl.is_spent and self.weights.good else self.iteration
        while self._kl_apart() > control.nats and (earlier := self.weights.before(kept)) is not None:
            kept = earlier
            self.weights.put_back(kept)
            self.kl = KLState(self.kl.coef, is_spent=True)
        return {"budget_step": kept}

    def _kl_apart(self) -> float:
        """Return the KL of the policy as it stands to the reference, nats per completion, on four iterations' worth of completions."""
        prompts = [self.prompts[k] for k in self.prompts_from(self.prompts_taken, 4 * self.config.prompts_per_iteration)]
        rollouts = self.sampler.draw_apart(prompts, self.config.samples_per_prompt, derive_seed(self.run.seed, "budget"))
        return float((rollouts.logps - self._logps(self.reference, rollouts)).sum() / len(rollouts.completions))

    def _prompts(self, data: DataInput, limit: int | None) -> list[Prompt]:
        """Return the prompts that leave room for a completion."""
        return fitting(self.run, prompts_at(self.run, data, limit, self.config.columns), self.policy, self.config.sampling.max_tokens)

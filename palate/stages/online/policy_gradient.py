"""Learning by policy gradients: PPO, RLOO, GRPO, REINFORCE and their kin, each a choice of advantage, loss and reduction."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from palate.core import ConfigError, TrainingError
from palate.models.causal import TokenOutputs
from palate.models.load import DType
from palate.objectives.advantages import GAE, Advantage
from palate.objectives.kl import KLTokens
from palate.objectives.policy_gradient import PolicyObjective, PolicyTokens, PPOClip
from palate.objectives.reduce import Sums, Totals, masked_ratio
from palate.objectives.reductions import Reduction, TokenMean, TokenWeights
from palate.objectives.value import ClippedValue, ValueObjective, ValueTokens, explained_variance
from palate.runs.run import Run
from palate.stages.online.algorithm import AlgorithmContext
from palate.stages.online.rollouts import Scored, token_columns
from palate.text.pack import PackedBatch, Tree, microbatches, pack
from palate.training.learner import Learner, statistics

EXPLAINED_BY = ("return", "return_squared", "residual", "residual_squared")
DRIFT_LIMIT: dict[DType, float] = {"float32": 1e-2, "bfloat16": 0.5}
"""Nats a token by which sampler and learner may disagree before anything was learned: they round differently."""


@dataclass(frozen=True, kw_only=True)
class PolicyGradient:
    """Each token is made likelier or less likely by its advantage.

    Attributes:
        advantage: how tokens are credited: gae (PPO), leave_one_out (RLOO), group_relative (GRPO), reinforce_plus_plus, batch_mean.
        objective: the policy's loss.
        reduction: how losses of tokens add up to that of a batch.
        value: the value model's loss; read by advantages that need one.
        value_coef: its weight beside the policy's.
        value_trunk: separate is a model of its own, started from the reward model (or the policy); shared is a head on the policy's
            hidden states: next to no memory or time, and both losses pull at one trunk.
    """

    kind: Literal["policy_gradient"] = "policy_gradient"
    advantage: Advantage = field(default_factory=GAE)
    objective: PolicyObjective = field(default_factory=PPOClip)
    reduction: Reduction = field(default_factory=TokenMean)
    value: ValueObjective = field(default_factory=ClippedValue)
    value_coef: float = 0.1
    value_trunk: Literal["separate", "shared"] = "separate"

    def check(self, samples_per_prompt: int) -> None:
        """Raises ConfigError when completions are to be compared with siblings that they do not have."""
        if self.advantage.needs_siblings and samples_per_prompt < 2:
            raise ConfigError(
                f"the advantage {self.advantage.kind} compares completions of one prompt: set samples_per_prompt to 2 or more, or "
                "method.advantage to gae"
            )

    def student(self, seat: AlgorithmContext) -> PolicyGradientAlgorithm:
        """The policy, with a value model where advantages need one."""
        return PolicyGradientAlgorithm(self, seat)


@dataclass(frozen=True)
class PolicyBatch:
    """A micro-batch of trees; columns of its tokens are all (n,)."""

    trees: tuple[Tree, ...]
    logps: Tensor
    reference_logps: Tensor
    advantages: Tensor
    returns: Tensor
    values: Tensor
    mask: Tensor

    @property
    def completion(self) -> Tensor:
        """(n,) number of each token's completion in this part."""
        lengths = torch.tensor([len(branch.ids) for tree in self.trees for branch in tree.branches])
        return torch.repeat_interleave(torch.arange(len(lengths)), lengths)


class Values(Protocol):
    """What expects rewards."""

    @property
    def module(self) -> nn.Module:
        """What learns."""
        ...

    def before(self, batch: PackedBatch) -> Tensor:
        """(n,) the reward expected before each token."""
        ...

    def save(self, directory: Path) -> None:
        """Nothing; writes what a later stage could use."""
        ...


class SeparateValues:
    """A value model of its own, from the reward model where that has the policy's tokenizer."""

    def __init__(self, seat: AlgorithmContext) -> None:
        self._model = seat.value_model()
        self.module: nn.Module = self._model.module

    def before(self, batch: PackedBatch) -> Tensor:
        """See `Values`."""
        return self._model.values(batch)[:, 0].float()

    def save(self, directory: Path) -> None:
        """Writes an ordinary scalar model."""
        self._model.merged().save(directory)


class SharedValues:
    """A linear head on the policy's hidden states, started at 0 (Ziegler et al. 2019)."""

    def __init__(self, seat: AlgorithmContext) -> None:
        if seat.policy.path != "packed":
            raise ConfigError("method.value_trunk shared needs a model that takes packed trees, which this one does not: set separate")
        self._policy = seat.policy
        self._head = nn.Linear(seat.policy.head[0].shape[1], 1)
        nn.init.zeros_(self._head.weight)
        nn.init.zeros_(self._head.bias)
        self.module: nn.Module = self._head

    def before(self, batch: PackedBatch) -> Tensor:
        """See `Values`."""
        return self.along(self._policy.logps(batch))

    def along(self, outputs: TokenOutputs) -> Tensor:
        """The same, with gradient, read off what the policy just gave for a batch."""
        assert outputs.states is not None
        return functional.linear(outputs.states.float(), self._head.weight.float(), self._head.bias.float())[:, 0]

    def save(self, directory: Path) -> None:
        """Nothing: the head says nothing without this very policy."""


class PolicyGradientAlgorithm:
    """A policy that learns from advantages, and what expects its rewards."""

    def __init__(self, config: PolicyGradient, seat: AlgorithmContext) -> None:
        self.config, self.seat = config, seat
        self.expects: Values | None = None
        self.modules: dict[str, nn.Module] = {}
        if config.advantage.needs_values:
            self.expects = SharedValues(seat) if config.value_trunk == "shared" else SeparateValues(seat)
            self.modules["value"] = self.expects.module

    @property
    def values(self) -> Callable[[PackedBatch], Tensor] | None:
        """Gives (n,) what is expected before each token, where the advantage needs it."""
        return None if self.expects is None else self.expects.before

    def lesson(self, scored: Scored, kl_coef: float) -> PolicyTrainingBatch:
        """The round with the advantages of its tokens."""
        return PolicyTrainingBatch(self, scored, kl_coef)

    def check(self, step: int, first: Mapping[str, float]) -> None:
        """Before anything was learned from a round, the policy that learns is the one that sampled: every ratio is 1."""
        if first["log_ratio/max"] > DRIFT_LIMIT[self.seat.dtype]:
            raise TrainingError(
                f"step {step}: sampler and learner disagree by up to {first['log_ratio/max']:.2e} nats a token before any update: "
                "ratios would be of another distribution. Look at temperature, padding and precision"
            )

    def summarised(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """The metrics with the value model's explained variance in place of the sums that it is made of."""
        rest = dict(metrics)
        parts = {name: rest.pop(f"value_{name}/mean") for name in EXPLAINED_BY if f"value_{name}/mean" in rest}
        explained = explained_variance(parts) if parts else math.nan
        return rest if math.isnan(explained) else {**rest, "value_explained/share": explained}

    def keep(self, run: Run, learner: Learner) -> None:
        """Writes a value model of its own as `value/`."""
        if self.expects is not None:
            learner.release()
            self.expects.save(run.directory / "value")


class PolicyTrainingBatch:
    """A round with its advantages, in units of prompts."""

    def __init__(self, student: PolicyGradientAlgorithm, scored: Scored, kl_coef: float) -> None:
        seat = student.seat
        self._student, self._config, self._seat = student, student.config, seat
        self._kl_coef = kl_coef
        self._trees = scored.rollouts.trees
        self.units = len(self._trees)
        episodes = scored.episodes(self._seat.kl.in_reward(scored.rollouts.logps, scored.reference_logps, kl_coef))
        credit = self._config.advantage(episodes)
        nothing = torch.zeros_like(credit.advantages)
        logps, advantages, told = scored.rollouts.logps, credit.advantages, {}
        if scored.learner_logps is not None and seat.correction is not None:
            weights, ratios = seat.correction(scored.learner_logps, logps, credit.mask)
            logps, advantages = scored.learner_logps, weights * advantages
            told = statistics(Totals(dict(ratios)))
        self._columns = {
            "logps": logps,
            "reference_logps": scored.reference_logps,
            "advantages": advantages,
            "returns": nothing if credit.returns is None else credit.returns,
            "values": nothing if scored.values is None else scored.values,
            "mask": credit.mask,
        }
        taught = credit.advantages[credit.mask]
        self.metrics = {"advantage/sd": float(taught.std(correction=0)) if len(taught) else 0.0, **told}

    def parts(self, chosen: Sequence[int]) -> list[PolicyBatch]:
        """Micro-batches of some prompts' trees."""
        trees = [self._trees[k] for k in chosen]
        found = []
        for part in microbatches(trees, self._seat.tokens_per_microbatch):
            numbers = [chosen[k] for k in part]
            found.append(PolicyBatch(tuple(trees[k] for k in part), **token_columns(self._trees, self._columns, numbers)))
        return found

    def count(self, part: PolicyBatch) -> float:
        """Tokens or completions, as the reduction counts."""
        return float(self._config.reduction(part.completion, part.mask).count)

    def losses(self, part: PolicyBatch) -> Sequence[Callable[[], Sums]]:
        """The policy's loss, KL where it is paid in the loss, and the value model's loss."""
        expects = self._student.expects
        if isinstance(expects, SeparateValues):
            return [partial(self._policy_loss, part), partial(self._separate_value_loss, expects, part)]
        return [partial(self._policy_loss, part)]

    def _policy_loss(self, part: PolicyBatch) -> Sums:
        config, kl = self._config, self._seat.kl
        packed, completion = pack(part.trees), part.completion
        weights = config.reduction(completion, part.mask)
        now = self._seat.policy.logps(packed, temperature=self._seat.temperature)
        sums = config.objective(PolicyTokens(now.logps, part.logps, part.advantages, part.mask, completion), weights)
        loss, metrics = sums.loss, {**sums.metrics, "entropy": masked_ratio(now.entropy, part.mask)}
        if kl.place == "loss":
            paid = kl.in_loss(KLTokens(now.logps, part.reference_logps, part.mask), self._kl_coef, weights)
            loss, metrics = loss + paid.loss, {**metrics, **paid.metrics}
        if isinstance(self._student.expects, SharedValues):
            value = self._value_loss(self._student.expects.along(now), part, weights)
            loss, metrics = loss + value.loss, {**metrics, **value.metrics}
        return Sums(loss, sums.count, metrics)

    def _separate_value_loss(self, expects: SeparateValues, part: PolicyBatch) -> Sums:
        """Counts nothing: the policy's loss has counted what both are divided by."""
        value = self._value_loss(expects.before(pack(part.trees)), part, self._config.reduction(part.completion, part.mask))
        return Sums(value.loss, torch.zeros_like(value.count), value.metrics)

    def _value_loss(self, told: Tensor, part: PolicyBatch, weights: TokenWeights) -> Sums:
        value = self._config.value(ValueTokens(told, part.values, part.returns, part.mask), weights)
        return Sums(self._config.value_coef * value.loss, value.count, {f"value_{name}": ratio for name, ratio in value.metrics.items()})

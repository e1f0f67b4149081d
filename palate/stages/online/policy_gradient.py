"""Policy gradients: PPO, RLOO, GRPO, REINFORCE and their relatives, each a choice of advantage, loss and reduction."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from palate.config.types import name_of_kind
from palate.core import ConfigError, TrainingError
from palate.distributed.ranks import ranks
from palate.distributed.sharing import microbatches
from palate.models.causal import TokenOutputs
from palate.models.four_bit import four_bit_layers
from palate.models.shared_layers import to_cpu
from palate.models.written import check_export
from palate.objectives.advantages import GAE, Advantage, GroupDecoupled
from palate.objectives.kl import FixedKL, KLPenalty, KLTokens
from palate.objectives.policy_gradient import PolicyObjective, PolicyTokens, PPOClip
from palate.objectives.reduce import Sums, Totals, masked_ratio
from palate.objectives.reductions import Reduction, TokenMean, TokenWeights, with_length
from palate.objectives.shaping import Shaping
from palate.objectives.value import ClippedValue, ValueObjective, ValueTokens, explained_variance
from palate.runs.run import Run
from palate.stages.online.algorithm import AlgorithmContext
from palate.stages.online.rollouts import Scored, token_columns
from palate.text.pack import PackedBatch, Tree, pack
from palate.training.learner import Learner
from palate.training.source_losses import statistics

EXPLAINED_BY = ("return", "return_squared", "residual", "residual_squared")
DRIFT_LIMIT = {torch.float32: 1e-2, torch.bfloat16: 0.5, torch.float16: 0.1}
"""How far sampler and learner may disagree before anything was learned, in nats per token: they round differently."""


@dataclass(frozen=True, kw_only=True)
class PolicyGradient:
    """Make each token likelier or less likely by its advantage.

    Attributes:
        advantage: the rule that credits tokens: gae (PPO), leave_one_out (RLOO), group_relative (GRPO), reinforce_plus_plus, batch_mean.
        objective: the policy's loss.
        reduction: how the losses of tokens add up to the loss of a batch.
        value: the value model's loss; used only by advantages that need a value model.
        value_coef: the weight of the value model's loss beside the policy's.
        value_trunk: separate trains a second model, started from the reward model or else from the policy. shared trains a head on the
            policy's hidden states: it needs little memory and time, but both losses train one trunk.
    """

    kind: Literal["policy_gradient"] = "policy_gradient"
    advantage: Advantage = field(default_factory=GAE)
    objective: PolicyObjective = field(default_factory=PPOClip)
    reduction: Reduction = field(default_factory=TokenMean)
    value: ValueObjective = field(default_factory=ClippedValue)
    value_coef: float = 0.1
    value_trunk: Literal["separate", "shared"] = "separate"

    pays_kl: ClassVar[bool] = True

    @property
    def compares_siblings(self) -> bool:
        """Whether it learns nothing from a prompt whose completions all got the same reward."""
        return self.advantage.needs_siblings

    def check(self, samples_per_prompt: int) -> None:
        """Raise ConfigError when the advantage compares completions of a prompt and there is only one."""
        if self.advantage.needs_siblings and samples_per_prompt < 2:
            raise ConfigError(
                f"the advantage {name_of_kind(self.advantage)} compares completions of one prompt: set samples_per_prompt to 2 or more, or "
                "method.advantage to gae"
            )

    def check_reward(self, kl: KLPenalty, shaping: Shaping) -> None:
        """Raise ConfigError when the advantage normalises parts of the reward apart, and the reward has a price of KL or is whitened."""
        if not isinstance(self.advantage, GroupDecoupled):
            return
        if kl.place == "reward" and not (isinstance(kl.control, FixedKL) and kl.control.coef == 0):
            raise ConfigError(
                "the advantage group_decoupled normalises each reward apart, so a price of KL in the reward would lose its size: set "
                "kl.place to loss and kl.estimator to k3, or kl.control.coef to 0"
            )
        if shaping.whiten:
            raise ConfigError("the advantage group_decoupled normalises rewards itself: leave out shaping.whiten")

    def algorithm(self, context: AlgorithmContext) -> PolicyGradientAlgorithm:
        """Return the algorithm, with a value model where the advantage needs one."""
        return PolicyGradientAlgorithm(self, context)


@dataclass(frozen=True)
class PolicyBatch:
    """A micro-batch of trees; the columns of its tokens are all (n,)."""

    trees: tuple[Tree, ...]
    logps: Tensor
    reference_logps: Tensor
    advantages: Tensor
    returns: Tensor
    values: Tensor
    mask: Tensor

    @property
    def completion(self) -> Tensor:
        """(n,) number of each token's completion in this micro-batch."""
        lengths = torch.tensor([len(branch.ids) for tree in self.trees for branch in tree.branches])
        return torch.repeat_interleave(torch.arange(len(lengths)), lengths)


class Values(Protocol):
    """A value model: the reward expected before each token."""

    @property
    def module(self) -> nn.Module:
        """The module that is trained."""
        ...

    def before(self, batch: PackedBatch) -> Tensor:
        """Return the reward expected before each token (n,)."""
        ...

    def save(self, directory: Path) -> None:
        """Write what a later stage can use."""
        ...


class SeparateValues:
    """A value model beside the policy, started from the reward model where that has the policy's tokenizer."""

    def __init__(self, context: AlgorithmContext) -> None:
        self._model = context.value_model()
        self.module: nn.Module = self._model.module

    def before(self, batch: PackedBatch) -> Tensor:
        """See `Values`."""
        return self._model.values(batch)[:, 0].float()

    def save(self, directory: Path) -> None:
        """Write a scalar model. One with a base of 4 bits is dequantised on the CPU, because a device may be too small for it."""
        if four_bit_layers(self.module):
            to_cpu(self.module)
        model = self._model.merged()
        model.save(directory)
        check_export(model, directory)


class SharedValues:
    """A value head: linear on the policy's hidden states, started at 0 (Ziegler et al. 2019)."""

    def __init__(self, context: AlgorithmContext) -> None:
        if context.policy.path != "packed":
            raise ConfigError("method.value_trunk: shared needs a model that takes packed trees, and this one does not. Use separate")
        self._policy = context.policy
        self._head = nn.Linear(context.policy.head[0].shape[1], 1).to(context.policy.device)
        nn.init.zeros_(self._head.weight)
        nn.init.zeros_(self._head.bias)
        self.module: nn.Module = self._head

    def before(self, batch: PackedBatch) -> Tensor:
        """See `Values`."""
        return self.from_outputs(self._policy.logps(batch))

    def from_outputs(self, outputs: TokenOutputs) -> Tensor:
        """Return the same (n,), with gradient, from the policy's outputs for a batch."""
        assert outputs.states is not None
        return functional.linear(outputs.states.float(), self._head.weight.float(), self._head.bias.float())[:, 0].cpu()

    def save(self, directory: Path) -> None:
        """Write nothing: the head is useless without this very policy."""


class PolicyGradientAlgorithm:
    """A policy that learns from advantages, and its value model."""

    def __init__(self, config: PolicyGradient, context: AlgorithmContext) -> None:
        self._config, self._context = replace(config, reduction=with_length(config.reduction, context.max_tokens)), context
        self._value_model: Values | None = None
        self.modules: dict[str, nn.Module] = {}
        if config.advantage.needs_values:
            self._value_model = SharedValues(context) if config.value_trunk == "shared" else SeparateValues(context)
            self.modules["value"] = self._value_model.module

    @property
    def values(self) -> Callable[[PackedBatch], Tensor] | None:
        """A function that returns the reward expected before each token (n,); None where the advantage does not need it."""
        return None if self._value_model is None else self._value_model.before

    def batch(self, scored: Scored, kl_coef: float) -> PolicyTrainingBatch:
        """Return the rollouts with the advantages of their tokens."""
        return PolicyTrainingBatch(self._config, self._context, self._value_model, scored, kl_coef)

    def check_first_step(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """Raise TrainingError when a ratio is not 1: before the first update, the policy that learns is the one that sampled."""
        drift = metrics["log_ratio/max"]
        if drift > DRIFT_LIMIT[self._context.dtype]:
            raise TrainingError(
                f"iteration {iteration}: sampler and learner disagree by up to {drift:.2e} nats per token before any update, so ratios "
                "would be those of another distribution. Check temperature, padding and precision"
            )

    def logged(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return the metrics with the value model's explained variance in place of the sums that it is made of."""
        rest = dict(metrics)
        parts = {name: rest.pop(f"value_{name}/mean") for name in EXPLAINED_BY if f"value_{name}/mean" in rest}
        explained = explained_variance(parts) if parts else math.nan
        return rest if math.isnan(explained) else {**rest, "value_explained/share": explained}

    def save(self, run: Run, learner: Learner) -> None:
        """Write a separate value model as `value/`."""
        if self._value_model is not None:
            learner.release()
            if ranks().is_writer:
                self._value_model.save(run.directory / "value")


class PolicyTrainingBatch:
    """Rollouts with their advantages, in units of prompts."""

    def __init__(
        self, config: PolicyGradient, context: AlgorithmContext, value_model: Values | None, scored: Scored, kl_coef: float
    ) -> None:
        self._config, self._context, self._value_model, self._kl_coef = config, context, value_model, kl_coef
        self._trees = scored.rollouts.trees
        self.units = len(self._trees)
        credit = config.advantage(scored.episodes(context.kl.in_reward(scored.rollouts.logps, scored.reference_logps, kl_coef)))
        zeros = torch.zeros_like(credit.advantages)
        logps, advantages, correction_metrics = scored.rollouts.logps, credit.advantages, {}
        if scored.learner_logps is not None and context.correction is not None:
            weights, ratios = context.correction(scored.learner_logps, logps, credit.mask)
            logps, advantages = scored.learner_logps, weights * advantages
            correction_metrics = statistics(Totals(dict(ratios)))
        self._columns = {
            "logps": logps,
            "reference_logps": scored.reference_logps,
            "advantages": advantages,
            "returns": zeros if credit.returns is None else credit.returns,
            "values": zeros if scored.values is None else scored.values,
            "mask": credit.mask,
        }
        used = credit.advantages[credit.mask]
        self.metrics = {"advantage/sd": float(used.std(correction=0)) if len(used) else 0.0, **correction_metrics}

    def microbatches(self, units: Sequence[int]) -> list[PolicyBatch]:
        """Return the micro-batches of some prompts' trees."""
        trees = [self._trees[k] for k in units]
        batches = []
        for part in microbatches(trees, self._context.tokens_per_microbatch):
            numbers = [units[k] for k in part]
            batches.append(PolicyBatch(tuple(trees[k] for k in part), **token_columns(self._trees, self._columns, numbers)))
        return batches

    def count(self, microbatch: PolicyBatch) -> float:
        """Return the number of tokens or completions, as the reduction counts."""
        return float(self._config.reduction(microbatch.completion, microbatch.mask).count)

    def losses(self, microbatch: PolicyBatch) -> Sequence[Callable[[], Sums]]:
        """Return the policy's loss, with KL where it is paid in the loss, and the value model's loss."""
        if isinstance(self._value_model, SeparateValues):
            return [partial(self._policy_loss, microbatch), partial(self._separate_value_loss, self._value_model, microbatch)]
        return [partial(self._policy_loss, microbatch)]

    def _policy_loss(self, part: PolicyBatch) -> Sums:
        config, kl = self._config, self._context.kl
        packed, completion = pack(part.trees, self._context.tokens_per_microbatch), part.completion
        weights = config.reduction(completion, part.mask)
        outputs = self._context.policy.logps(packed, temperature=self._context.temperature)
        sums = config.objective(PolicyTokens(outputs.logps, part.logps, part.advantages, part.mask, completion), weights)
        loss, metrics = sums.loss, {**sums.metrics, "entropy": masked_ratio(outputs.entropy, part.mask)}
        if kl.place == "loss":
            paid = kl.in_loss(KLTokens(outputs.logps, part.reference_logps, part.mask), self._kl_coef, weights)
            loss, metrics = loss + paid.loss, {**metrics, **paid.metrics}
        if isinstance(self._value_model, SharedValues):
            value = self._value_loss(self._value_model.from_outputs(outputs), part, weights)
            loss, metrics = loss + value.loss, {**metrics, **value.metrics}
        return Sums(loss, sums.count, metrics)

    def _separate_value_loss(self, value_model: SeparateValues, part: PolicyBatch) -> Sums:
        """Return the value model's loss with a count of 0: the policy's loss has counted what both are divided by."""
        packed = pack(part.trees, self._context.tokens_per_microbatch)
        value = self._value_loss(value_model.before(packed), part, self._config.reduction(part.completion, part.mask))
        return Sums(value.loss, torch.zeros_like(value.count), value.metrics)

    def _value_loss(self, values: Tensor, part: PolicyBatch, weights: TokenWeights) -> Sums:
        value = self._config.value(ValueTokens(values, part.values, part.returns, part.mask), weights)
        return Sums(self._config.value_coef * value.loss, value.count, {f"value_{name}": ratio for name, ratio in value.metrics.items()})

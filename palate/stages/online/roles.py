"""The models of online training: how the policy and the value model start, one base for all, and where frozen ones lie."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from torch import nn
from transformers import PreTrainedModel

from palate.config.artifacts import model_at
from palate.core.process import WHOLE, computing_on, shard_now
from palate.distributed.windows import windows
from palate.models.adapters import LoRA, base_of, four_bit_of
from palate.models.causal import CausalPolicy
from palate.models.load import load_policy, load_reference
from palate.models.offload import Offload, shares_weights
from palate.models.scalar import ScalarModel, load_scalar, scalar_from, with_heads
from palate.models.shared_layers import cast_parameters, sharing_out
from palate.models.shared_weights import share_frozen
from palate.rewards.learned import LearnedReward
from palate.runs.run import Run
from palate.text.spans import NO_LIMIT
from palate.training.model_io import trainable


def learning_policy(run: Run, base: str, adapters: LoRA | None) -> CausalPolicy:
    """Return the policy at `base`, ready to learn."""
    with sharing_out(windows(), learns=adapters is None):
        policy = load_policy(base, four_bit=four_bit_of(adapters))
    return trainable(run, policy, base, adapters)


def reference_of(policy: CausalPolicy, base: str, named: str | None) -> CausalPolicy:
    """Return the model to which KL is measured: the one at `named`, or without that name the policy as it starts, from `base`.

    Raises:
        ModelError: its ids mean other tokens than the policy's, or it takes fewer tokens.
    """
    if named is None and (policy.adapters is not None or shard_now().kind == WHOLE):
        return policy.reference()
    # Where ranks share out models, a copy of the policy would be whole for a moment, so it is read again.
    with sharing_out(windows(), learns=False):
        reference = load_reference(base if named is None else model_at(named), policy, policy.max_tokens or 0)
    reference.module.requires_grad_(requires_grad=False)
    return reference


def new_value_model(run: Run, policy: CausalPolicy, base: str, rewards: Mapping[str, LearnedReward], adapters: LoRA | None) -> ScalarModel:
    """Return a value model that is ready to learn, started from the first reward model with the policy's tokenizer.

    That reward model must take sequences as long as the policy's. A classifier of rules does not count as one. Without a reward model
    the value model starts from the policy. Where the reward model is an adapter, the value model is an adapter on the same base and starts
    with the reward model's matrices.

    Args:
        run: the run that trains.
        policy: the policy.
        base: the model that the policy was loaded from.
        rewards: the reward models by path.
        adapters: the adapters that are trained; None trains all weights.
    """
    if adapters is not None:
        adapters = replace(adapters, merge=True)  # a value model is always written as a whole model
    vocabulary, longest = policy.tokenizer.get_vocab(), policy.max_tokens or NO_LIMIT
    matching = [
        (path, reward.model)
        for path, reward in rewards.items()
        if not reward.model.is_encoder
        and not reward.reads_rules
        and reward.model.tokenizer.get_vocab() == vocabulary
        and (reward.model.max_tokens or NO_LIMIT) >= longest
    ]
    directory, source = (model_at(matching[0][0]), matching[0][1]) if matching else (base, None)
    four_bit = four_bit_of(adapters)
    if source is not None and source.adapters is not None:
        reward_base, _ = base_of(directory)
        with sharing_out(windows(), learns=False):
            fresh = scalar_from(reward_base, ("value",), seed=0, start="zero", four_bit=four_bit)
        value = trainable(run, fresh, reward_base, adapters)
        if value.adapters is not None and value.adapters.start_as(source.adapters):
            return value
        # An adapter of another rank or on other layers cannot go on, but base and adapter together can be the base.
        with nullcontext() if four_bit is None else computing_on("cpu"):
            source = load_scalar(directory)
    with sharing_out(windows(), learns=adapters is None):
        if source is not None and four_bit is None and shard_now().kind != WHOLE:
            # A copy of the reward model would be whole for a moment, so it is read again.
            fresh = with_heads(load_scalar(directory), ("value",), seed=0, start="zero", takes=True)
        else:
            start = directory if source is None else source
            fresh = scalar_from(start, ("value",), seed=0, start="zero", four_bit=four_bit)
    return trainable(run, fresh, directory, adapters)


class FrozenModels:
    """The models of online training that do not learn: the reference and the reward models.

    With `offload` they are on the device only while they compute. A model that shares weights with another one stays there: the reference
    of a policy with adapters, and adapters on its base.
    """

    def __init__(self, reference: CausalPolicy, rewards: Sequence[LearnedReward], learned: Iterable[nn.Module], *, offload: bool) -> None:
        self._reference = reference
        modules = [reference.module, *(reward.model.module for reward in rewards)]
        others = list(learned)
        apart = [
            offload and reference.device.type != "cpu" and not shares_weights(module, *others, *modules[:k], *modules[k + 1 :])
            for k, module in enumerate(modules)
        ]
        self._offload = Offload(reference.module) if apart[0] else None
        for reward, is_apart in zip(rewards, apart[1:], strict=True):
            if is_apart:
                reward.used = Offload(reward.model.module).used

    def expect_reference(self) -> None:
        """Begin to bring the reference to the device."""
        if self._offload is not None:
            self._offload.fetch()

    def used(self, policy: CausalPolicy) -> AbstractContextManager[None]:
        """A context in which a policy can compute: the reference, or another one, which always can."""
        return self._offload.used() if policy is self._reference and self._offload is not None else nullcontext()


def make_alike(fixed: Sequence[PreTrainedModel], learned: Iterable[nn.Module], dtype: torch.dtype, *, shares_base: bool) -> None:
    """Let the models that do not learn compute in `dtype`, as those do that learn, and with `shares_base` hold equal frozen weights once.

    A value model may start from the float32 weights of a reward model, so this comes after it is made. Models whose layers ranks share out
    each have their own.
    """
    for module in fixed:
        cast_parameters(module, dtype)
    if shares_base and shard_now().kind == WHOLE:
        share_frozen(*(module for module in learned if isinstance(module, PreTrainedModel)), *fixed)

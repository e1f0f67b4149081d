"""The models of online training beside the policy: where the value model starts, and one base for all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import nn
from transformers import PreTrainedModel

from palate.config.artifacts import model_at
from palate.core.process import computing_on
from palate.models.adapters import LoRA, base_of, four_bit_of
from palate.models.causal import CausalPolicy
from palate.models.scalar import ScalarModel, load_scalar, scalar_from
from palate.models.shared_weights import share_frozen
from palate.rewards.learned import LearnedReward
from palate.runs.run import Run
from palate.text.spans import NO_LIMIT
from palate.training.model_io import trainable


def new_value_model(run: Run, policy: CausalPolicy, base: str, rewards: Mapping[str, LearnedReward], adapters: LoRA | None) -> ScalarModel:
    """Return a value model that is ready to learn, started from the first reward model with the policy's tokenizer.

    That reward model must take sequences as long as the policy's. Without such a reward model it starts from the policy. Where the reward
    model is an adapter, the value model is an adapter on the same base and starts with the reward model's matrices.

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
        if reward.model.tokenizer.get_vocab() == vocabulary and (reward.model.max_tokens or NO_LIMIT) >= longest
    ]
    directory, source = (model_at(matching[0][0]), matching[0][1]) if matching else (base, None)
    four_bit = four_bit_of(adapters)
    if source is not None and source.adapters is not None:
        reward_base, _ = base_of(directory)
        fresh = scalar_from(reward_base, ("value",), seed=0, zero=True, four_bit=four_bit)
        value = trainable(run, fresh, reward_base, adapters)
        if value.adapters is not None and value.adapters.start_as(source.adapters):
            return value
        # An adapter of another rank or on other layers cannot go on, but base and adapter together can be the base.
        with nullcontext() if four_bit is None else computing_on("cpu"):
            source = load_scalar(directory)
    start = directory if source is None else source
    return trainable(run, scalar_from(start, ("value",), seed=0, zero=True, four_bit=four_bit), directory, adapters)


def share_base(learned: Iterable[nn.Module], rewards: Iterable[ScalarModel], dtype: torch.dtype) -> None:
    """Let models on the policy's base hold its frozen weights once. Reward models that are adapters compute in `dtype`."""
    models = list(rewards)
    for model in models:
        if model.adapters is not None:
            model.module.to(dtype)
    learning = [module for module in learned if isinstance(module, PreTrainedModel)]
    share_frozen(*learning, *(model.module for model in models))

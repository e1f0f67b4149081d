"""The parts underneath the stages, on objects in memory: load models, sample, score, and take log-probabilities."""

from __future__ import annotations

import os
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palate.api.given_objects import with_paths
from palate.config.artifacts import model_at
from palate.config.read import read_config
from palate.config.settings import Settings
from palate.core import Completion, DataError, Prompt, Sampling
from palate.data.cells import InvalidRow
from palate.data.conversations import prompt_of
from palate.models.causal import CausalPolicy
from palate.models.load import as_policy as policy_of
from palate.models.load import load_policy as policy_at
from palate.models.load import without_dropout
from palate.models.precision import DType
from palate.rewards.composition import Composition, RewardPart
from palate.rewards.learned import LearnedReward
from palate.samplers.local import LocalSampler
from palate.text.pack import pack
from palate.text.spans import NO_LIMIT, preference_tree

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PromptLike = Prompt | str | Sequence[Mapping[str, Any]]
"""A prompt, its text, or its messages with `role` and `content`."""

CompletionLike = Completion | str
"""A completion, or its text."""


def load_policy(model: str | os.PathLike[str], *, dtype: DType = "float32") -> CausalPolicy:
    """Return the policy in a run or a model directory, or of that name on the hub.

    Raises:
        ModelError: there is none, or it cannot be read.
    """
    return policy_at(model_at(os.fspath(model)), dtype=dtype)


def as_policy(module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> CausalPolicy:
    """Return a Hugging Face model with its tokenizer as a policy, which stages take in place of a path.

    Its dropout is switched off, and its attention is from then on that of packed trees: call the policy, not the model.

    Raises:
        ModelError: the tokenizer has more tokens than the model.
    """
    without_dropout(module.config)
    return policy_of(module, tokenizer)


def load_reward(model: str | os.PathLike[str], *, dtype: DType = "float32") -> LearnedReward:
    """Return the reward model in a run or a model directory.

    Raises:
        ModelError: there is none, it cannot be read, or it is a classifier of rules.
    """
    reward = LearnedReward.load(model_at(os.fspath(model)), dtype=dtype)
    reward.require_no_rules(os.fspath(model))
    return reward


def as_prompts(prompts: Sequence[PromptLike]) -> list[Prompt]:
    """Return texts and messages as prompts, each with its number as id; prompts stay as they are.

    Raises:
        DataError: one prompt is given in place of a list, or one of them is not a prompt.
    """
    if isinstance(prompts, str | Prompt | Mapping):
        raise DataError(f"prompts: a list of prompts is needed, got {_shown(prompts)}. Put one prompt into a list: [prompt].")
    made: list[Prompt] = []
    for number, given in enumerate(prompts):
        if isinstance(given, Prompt):
            made.append(given)
            continue
        if isinstance(given, Mapping) or not isinstance(given, Sequence):
            raise DataError(f"prompts[{number}] is {_shown(given)}. A prompt is a text, a list of messages, or a palate.Prompt.")
        turns = given if isinstance(given, str) else [dict(turn) if isinstance(turn, Mapping) else turn for turn in given]
        try:
            made.append(Prompt(str(number), prompt_of(turns)))
        except InvalidRow as error:
            raise DataError(f"prompts[{number}]: {error.reason}") from error
    return made


def grouped(prompts: Sequence[PromptLike], completions: Sequence[Sequence[CompletionLike]]) -> tuple[list[Prompt], list[list[Completion]]]:
    """Return prompts, and completions of each; a text is read as a finished completion.

    Raises:
        DataError: as `as_prompts`, or a prompt has no list of completions.
    """
    asked = as_prompts(prompts)
    if isinstance(completions, str) or len(completions) != len(asked):
        raise DataError(f"completions: {len(completions)} for {len(asked)} prompts. Give one list of completions for each prompt.")
    for number, group in enumerate(completions):
        if isinstance(group, str | Completion):
            raise DataError(f"completions[{number}] is one completion, {_shown(group)}. Put the completions of each prompt into a list.")
    return asked, [[Completion(one, stop="eos") if isinstance(one, str) else one for one in group] for group in completions]


def generate(
    policy: CausalPolicy, prompts: Sequence[PromptLike], n: int = 1, *, sampling: Sampling | None = None, seed: int = 0
) -> list[list[Completion]]:
    """Draw `n` completions of each prompt. The same seed gives the same completions.

    Args:
        policy: the model.
        prompts: prompts, texts, or messages.
        n: completions per prompt.
        sampling: temperature, longest completion and so on; by default those of stage `sample`.
        seed: of all draws.

    Raises:
        DataError: a prompt leaves no room for a completion.
    """
    return LocalSampler(policy).generate(as_prompts(prompts), n, sampling or Sampling(), seed)


def logps(
    policy: CausalPolicy,
    prompts: Sequence[PromptLike],
    completions: Sequence[Sequence[CompletionLike]],
    *,
    temperature: float = 1.0,
) -> list[list[list[float]]]:
    """Return the log-probability of every token of every completion, nats; a text is read as a finished completion."""
    import torch

    found = []
    for prompt, group in zip(*grouped(prompts, completions), strict=True):
        tree = preference_tree(policy.tokenizer, prompt.conversation, group, policy.max_tokens or NO_LIMIT)
        with torch.no_grad():
            flat = policy.logps(pack([tree]), temperature=temperature).logps.tolist()
        ends = list(accumulate(len(branch.ids) for branch in tree.branches))
        found.append([flat[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)])
    return found


def score(
    reward: LearnedReward | Mapping[str, Any], prompts: Sequence[PromptLike], completions: Sequence[Sequence[CompletionLike]]
) -> list[list[float | None]]:
    """Score every completion, None where that fails.

    Args:
        reward: a reward model, or the parts of a reward by name, as in the setting `rewards` of stage `online`.
        prompts: prompts, texts, or messages.
        completions: the completions of each prompt.

    Raises:
        ConfigError: a part cannot be used.
    """
    asked, groups = grouped(prompts, completions)
    if isinstance(reward, LearnedReward):
        return reward.score(asked, groups)["score"]
    composed = compose(reward)
    try:
        flat = composed.score(asked, groups).rewards.tolist()
    finally:
        composed.close()
    values = [None if value != value else value for value in flat]
    ends = list(accumulate(map(len, groups)))
    return [values[end - len(group) : end] for end, group in zip(ends, groups, strict=True)]


def compose(parts: Mapping[str, Any], policy: CausalPolicy | None = None) -> Composition:
    """Return a reward of parts, ready to score. Close it when you are done.

    Args:
        parts: by name, as in the setting `rewards` of stage `online`: settings, objects, or functions.
        policy: whose completions are scored by their ids; None scores texts.

    Raises:
        ConfigError: a part cannot be used.
    """
    read = read_config(_Parts, Settings({"parts": dict(parts)}, {(): "palate.compose"}), takes_objects=True)
    with tempfile.TemporaryDirectory() as folder:  # for models that are objects; they are read before it goes
        return Composition.load(with_paths(read, Path(folder)).parts, None if policy is None else policy.tokenizer)


@dataclass(frozen=True)
class _Parts:
    """The parts of a reward by name, for the reader of settings."""

    parts: dict[str, RewardPart]


def _shown(value: object) -> str:
    return textwrap.shorten(repr(value), 60)

"""The members of an ensemble in training: how they differ, what each starts and learns from, and heads for all on one trunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from palate.config.types import Count, ModelInput
from palate.core import ConfigError, derive_seed
from palate.models.reward_file import member_heads
from palate.training.comparisons import JudgedPrompt


@dataclass(frozen=True, kw_only=True)
class Members:
    """Train an ensemble: several reward models that learn from the same judgments and differ by their seeds, or by what they start from.

    Attributes:
        count: how many members.
        other_models: further models with the tokenizer of `model`. Members start in turn from `model` and from these. None lets all members
            start from `model`.
        bootstrap: prompts draws as many prompts as there are for each member, with replacement, and with all their judgments. none gives
            every member all prompts.
        trunk: own trains a model per member, or an adapter per member where there are `adapters`. shared trains one model with heads for
            each member.
        heads: own draws the first heads of each member anew. same starts all members with the same heads, as averaging their weights needs.
    """

    count: Count = 4
    other_models: tuple[ModelInput, ...] = ()
    bootstrap: Literal["none", "prompts"] = "prompts"
    trunk: Literal["own", "shared"] = "own"
    heads: Literal["own", "same"] = "own"

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.count < 2:
            raise ConfigError(f"members.count must be 2 or more, got {self.count}: one model is not an ensemble. Leave members out")
        if self.trunk == "shared" and self.heads == "same":
            raise ConfigError("members.heads: same has no meaning on a shared trunk, where heads are all that differs. Use own")
        if self.other_models and self.trunk == "shared":
            raise ConfigError("members.other_models needs a trunk for each member, and trunk: shared has one for all. Use trunk: own")
        if self.other_models and self.heads == "same":
            raise ConfigError(
                "members.heads: same prepares weights for averaging, and models that start from other weights cannot be averaged. "
                "Use heads: own, or leave out other_models"
            )
        if self.count <= len(self.other_models):
            raise ConfigError(
                f"members.count is {self.count}, and `model` with members.other_models are {len(self.other_models) + 1} models. "
                "Raise count, so that each model has a member, or name fewer models"
            )

    def starts(self, model: str) -> dict[str, str]:
        """Return the models from which the members start in turn, each by the setting that names it. `model` is the stage's own."""
        return {"model": model, **{f"members.other_models.{k}": path for k, path in enumerate(self.other_models)}}


def drawn_prompts(count: int, seed: int) -> list[int]:
    """Return `count` numbers below `count`, drawn with replacement: each number is missing with a probability of about 1 / e."""
    return [int(k) for k in np.random.default_rng(seed).integers(count, size=count)]


def bootstrapped(judged: Sequence[JudgedPrompt], members: Members, seed: int) -> list[JudgedPrompt]:
    """Return the prompts that a member with this seed learns from; a prompt that was drawn twice stands there twice."""
    if members.bootstrap == "none":
        return list(judged)
    return [judged[k] for k in drawn_prompts(len(judged), derive_seed(seed, "bootstrap"))]


def on_shared_trunk(judged: Sequence[JudgedPrompt], dimensions: Sequence[str], members: Members, seed: int) -> list[JudgedPrompt]:
    """Return the prompts with a copy of each pair for every member, judged by that member's head.

    A copy weighs as often as the member has drawn the prompt; those that it has not drawn are left out.

    Args:
        judged: the prompts.
        dimensions: names of the dimensions.
        members: how many members there are, and what they draw.
        seed: of the run; each member draws with a seed that is derived from it.
    """
    heads = member_heads(dimensions, members.count)
    times = np.ones((members.count, len(judged)), dtype=int)
    if members.bootstrap == "prompts":
        drawn = (drawn_prompts(len(judged), derive_seed(seed, "bootstrap", k)) for k in range(members.count))
        times = np.stack([np.bincount(numbers, minlength=len(judged)) for numbers in drawn])
    result = []
    for number, prompt in enumerate(judged):
        copies = [
            (
                replace(
                    pair, dimension=heads[member * len(dimensions) + dimensions.index(pair.dimension)], weight=pair.weight * int(count)
                ),
                p,
            )
            for member, count in enumerate(times[:, number])
            if count
            for pair, p in zip(prompt.pairs, prompt.preferences, strict=True)
        ]
        if copies:
            pairs, preferences = zip(*copies, strict=True)
            result.append(replace(prompt, pairs=pairs, preferences=preferences))
    return result

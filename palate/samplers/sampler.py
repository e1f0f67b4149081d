"""What samplers have in common: draw completions of prompts, and take the weights of a policy that learns.

`local` draws in this process, `openai_sampler` asks a server, `vllm_sampler` runs vLLM beside the learner.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from palate.core import Completion, ConfigError, DataError, Prompt, Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from palate.models.causal import CausalPolicy


class PromptReader(Protocol):
    """What turns prompts into tokens, and takes a limited number of them: a sampler or a policy."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of its model."""
        ...

    @property
    def max_tokens(self) -> int | None:
        """Tokens of prompt and completion together, at most; None where there is no limit."""
        ...


class Sampler(PromptReader, Protocol):
    """Draws completions of prompts from one model."""

    def generate(self, prompts: Sequence[Prompt], n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        """Return `n` completions per prompt, in the order of the prompts. All ranks call it together, and get all completions.

        Raises:
            ConfigError: `n`, the seed or a sampling parameter is out of range.
            DataError: a prompt leaves no room for a completion.
            RunError: a server gave no completions.
        """
        ...

    def close(self) -> None:
        """Give back processes and memory."""
        ...


class UpdatableSampler(Sampler, Protocol):
    """A sampler whose weights follow those of a policy that learns. `Completion.policy` says the version that a completion is from."""

    def load(self, policy: CausalPolicy, version: int) -> None:
        """Draw from the weights that `policy` has now, until the next call. `version` is their number in the records.

        Raises:
            TrainingError: the sampler does not compute what the policy computes.
        """
        ...

    def generate_share(self, prompts: Sequence[Prompt], n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        """Return the completions of this rank's share of the prompts, without waiting for other ranks; see `generate`."""
        ...


def prompt_names(prompts: Sequence[Prompt]) -> list[str]:
    """Return what messages call each prompt: its number, and where it is from."""
    return [f"{number} ({prompt.source or prompt.id})" for number, prompt in enumerate(prompts)]


def token_budgets(prompts: Sequence[Sequence[int]], names: Sequence[str], n: int, sampling: Sampling, limit: int | None) -> tuple[int, ...]:
    """Return the most tokens of a completion of each prompt: `sampling.max_tokens`, or what the model's `limit` leaves.

    Args:
        prompts: the token ids of each prompt.
        names: what messages call each prompt.
        n: completions per prompt.
        sampling: how they are drawn.
        limit: tokens of prompt and completion together, at most; None where there is no limit.

    Raises:
        ConfigError: `n` is below 1.
        DataError: a prompt is empty, or leaves no room for a single token.
    """
    if n < 1:
        raise ConfigError(f"n is {n}: ask for at least 1 sample per prompt")
    for prompt, name in zip(prompts, names, strict=True):
        if not prompt:
            raise DataError(f"prompt {name} has no tokens: give it some text, or use a tokenizer that starts a text with a token")
        if limit is not None and len(prompt) >= limit:
            raise DataError(
                f"prompt {name} has {len(prompt)} tokens and the model holds {limit}, which leaves no room for a completion: "
                "shorten the prompt or use a model with a longer context"
            )
    return tuple(sampling.max_tokens if limit is None else min(sampling.max_tokens, limit - len(prompt)) for prompt in prompts)

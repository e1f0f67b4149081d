"""What is scored (`ScoringBatch`), what a part answers (`PartScores`), and the protocols of what scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from palate.config.answers import Score
from palate.core import Completion, Conversation, Prompt
from palate.rewards.ensemble_members import EnsembleMember
from palate.runs.run import Run
from palate.text.pack import Tree

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class ScoringBatch:
    """Prompts with completions, b completions in all.

    Attributes:
        prompts: one per group.
        groups: the completions of each prompt.
        trees: the tokens as they were sampled, one tree per prompt; None where only texts are known.
    """

    prompts: tuple[Prompt, ...]
    groups: tuple[tuple[Completion, ...], ...]
    trees: tuple[Tree, ...] | None = None

    def __len__(self) -> int:
        """Return b, the number of completions."""
        return sum(map(len, self.groups))

    @cached_property
    def each(self) -> list[tuple[Prompt, Completion]]:
        """The b completions in order, each with its prompt."""
        return [(prompt, completion) for prompt, group in zip(self.prompts, self.groups, strict=True) for completion in group]

    @cached_property
    def columns(self) -> dict[str, list[object]]:
        """The further columns of the prompts' rows, b values per name; None where a row lacks the column."""
        names = dict.fromkeys(name for prompt in self.prompts for name in prompt.fields)
        return {name: [prompt.fields.get(name) for prompt, _ in self.each] for name in names}


def has_ended(completion: Completion) -> bool | None:
    """Return whether the completion ended by itself; None where that is not known."""
    return None if completion.stop == "unknown" else not completion.is_cut


def messages(conversation: Conversation) -> list[dict[str, str]]:
    """Return the turns as mappings with `role` and `content`."""
    return [{"role": message.role, "content": message.text} for message in conversation]


@dataclass(frozen=True)
class PartScores:
    """The scores that a part gives a batch.

    Attributes:
        heads: scores (b,) by head of the model, NaN where scoring failed; a part with a single unnamed score has the key "".
        reasons: why there is no score, by the completion's number in the batch.
        details: what the scores were made of, (b,) by name, NaN where it is not known. They are recorded and are not part of the score.
    """

    heads: Mapping[str, Tensor]
    reasons: Mapping[int, str]
    details: Mapping[str, Tensor] = field(default_factory=dict)

    @staticmethod
    def of(scores: Sequence[Score]) -> PartScores:
        """Return the outcome of a part with one unnamed score per completion, or a reason in its place."""
        numbers = torch.tensor([float("nan") if isinstance(score, str) else score for score in scores], dtype=torch.float32)
        return PartScores({"": numbers}, {k: score for k, score in enumerate(scores) if isinstance(score, str)})


class PartScorer(Protocol):
    """A part that is ready to score: its model is loaded, its process runs."""

    def score(self, batch: ScoringBatch) -> PartScores:
        """Score all completions; one that cannot be scored gets a reason, never an exception."""
        ...

    def close(self) -> None:
        """End the processes of the part."""
        ...


class HeadScorer(Protocol):
    """A member of an ensemble, or a reward model alone. Several parts may share it: each batch is scored once."""

    @property
    def member(self) -> EnsembleMember:
        """The member that scores."""
        ...

    def score(self, batch: ScoringBatch) -> tuple[Tensor, dict[int, str]]:
        """Return normalised scores (b, h), NaN where scoring failed, and the reasons by the completion's number."""
        ...


@dataclass(frozen=True)
class ScoringContext:
    """What a part needs to become a scorer.

    Attributes:
        name: the part's name, for messages.
        tokenizer: the policy's; None where completions come from elsewhere, so that their texts are scored.
        members: gives the members of the ensemble at a path, or the one reward model; each is loaded once.
        run: the run that scores, which keeps what judges answered; None outside a run.
    """

    name: str
    tokenizer: PreTrainedTokenizerBase | None
    members: Callable[[str], Sequence[HeadScorer]]
    run: Run | None = None

"""What is scored, and what a part says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from palate.core import Completion, Conversation, Prompt
from palate.rewards.common import Score
from palate.text.pack import Tree

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from palate.rewards.model import Member


@dataclass(frozen=True)
class ScoringBatch:
    """Prompts with completions, b completions in all.

    Attributes:
        prompts: one a group.
        groups: the completions of each prompt.
        trees: the tokens as they were sampled, one tree a prompt; None where only texts are known.
    """

    prompts: tuple[Prompt, ...]
    groups: tuple[tuple[Completion, ...], ...]
    trees: tuple[Tree, ...] | None = None

    def __len__(self) -> int:
        """How many completions: b."""
        return sum(map(len, self.groups))

    @cached_property
    def each(self) -> list[tuple[Prompt, Completion]]:
        """Each completion with its prompt, in order; b of them."""
        return [(prompt, completion) for prompt, group in zip(self.prompts, self.groups, strict=True) for completion in group]

    @cached_property
    def columns(self) -> dict[str, list[object]]:
        """What functions get besides prompt and completion, b values a name: the rows' further columns, `ended`, `conversation`.

        A row that lacks a column has None there.
        """
        names = dict.fromkeys(name for prompt in self.prompts for name in prompt.fields)
        found: dict[str, list[object]] = {name: [prompt.fields.get(name) for prompt, _ in self.each] for name in names}
        found["ended"] = [completion.stop == "eos" for _, completion in self.each]
        found["conversation"] = [messages(prompt.conversation) for prompt, _ in self.each]
        return found


def messages(conversation: Conversation) -> list[dict[str, str]]:
    """Turns as mappings with `role` and `content`."""
    return [{"role": message.role, "content": message.text} for message in conversation]


def completions_of(trees: Sequence[Tree], texts: Sequence[str], ended: Sequence[bool] | Tensor) -> tuple[tuple[Completion, ...], ...]:
    """Groups of completions, one a tree, of what was sampled: texts and ended (b,) in the order of the branches."""
    rest = iter(zip(texts, list(ended), strict=True))
    groups = []
    for tree in trees:
        own = [(branch.ids, *next(rest)) for branch in tree.branches]
        groups.append(tuple(Completion(text, ids, stop="eos" if whole else "length") for ids, text, whole in own))
    return tuple(groups)


@dataclass(frozen=True)
class PartScores:
    """What a part says of a batch.

    Attributes:
        dimensions: scores (b,) by dimension, NaN where scoring failed; a part with a single unnamed score has the dimension "".
        reasons: why there is no score, by number of the completion.
    """

    dimensions: Mapping[str, Tensor]
    reasons: Mapping[int, str]

    @staticmethod
    def of(scores: Sequence[Score]) -> PartScores:
        """The outcome of a single unnamed score each, or reasons in their place."""
        numbers = torch.tensor([float("nan") if isinstance(score, str) else score for score in scores], dtype=torch.float32)
        return PartScores({"": numbers}, {k: score for k, score in enumerate(scores) if isinstance(score, str)})


class PartScorer(Protocol):
    """A part that is ready to score: its model is loaded, its process runs."""

    def score(self, batch: ScoringBatch) -> PartScores:
        """Scores of all completions; a completion that cannot be scored is a reason, never an exception."""
        ...

    def close(self) -> None:
        """Nothing; lets go of processes."""
        ...


@dataclass(frozen=True)
class ScoringContext:
    """What parts are made ready with.

    Attributes:
        name: the part's name, for messages.
        tokenizer: the policy's; None where completions come from elsewhere, and then texts are scored.
        member: a reward model by its path, loaded once.
    """

    name: str
    tokenizer: PreTrainedTokenizerBase | None
    member: Callable[[str], Member]

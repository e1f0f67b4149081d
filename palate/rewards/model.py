"""A part of a reward from one reward model, or from an ensemble of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from palate.config.types import Input
from palate.core import Completion, ConfigError, Prompt
from palate.rewards.batch import HeadScorer, PartScores, ScoringBatch, ScoringContext
from palate.rewards.ensemble import Ensemble, Mean
from palate.rewards.learned import LearnedReward
from palate.rewards.part import PartSettings
from palate.text.pack import Tree
from palate.text.spans import NO_LIMIT
from palate.text.template import Unusable

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class ModelReward(PartSettings):
    """One or several reward models: the sum of their normalised heads.

    The sampled tokens are scored where model and policy have the same tokenizer, chat template and end token; otherwise the texts are.

    Attributes:
        model: a reward model or the run that trained it; several make an ensemble.
        heads: heads that count; all of them by default.
        ensemble: how the scores of several models become one, for each head.
    """

    kind: Literal["model"] = "model"
    model: tuple[Input, ...]
    heads: tuple[str, ...] = ()
    ensemble: Ensemble = Mean()

    def __post_init__(self) -> None:
        """Check the settings."""
        if len(set(self.heads)) < len(self.heads):
            raise ConfigError(f"model: heads names a head twice: {', '.join(self.heads)}")
        if not self.model:
            raise ConfigError("model: needs at least one reward model")
        if len(self.model) == 1 and self.ensemble != Mean():
            raise ConfigError(f"model: ensemble {self.ensemble.kind} needs at least two reward models, got one")
        self.check_shaping()

    def open(self, context: ScoringContext) -> ModelScorer:
        """Load the models."""
        members = [context.model(path) for path in self.model]
        wanted = self.heads or members[0].heads
        for path, member in zip(self.model, members, strict=True):
            if not set(wanted) <= set(member.heads) or (not self.heads and set(member.heads) != set(wanted)):
                raise ConfigError(
                    f"rewards.{context.name}: {path} has the heads {', '.join(member.heads)}, not {', '.join(wanted)}; "
                    "name heads that all models have"
                )
        return ModelScorer(members, wanted, self.ensemble)


class Member:
    """A reward model that several parts may share: it scores each batch once."""

    def __init__(self, reward: LearnedReward, tokenizer: PreTrainedTokenizerBase | None) -> None:
        """Take the reward model, and the policy's tokenizer or None where only texts are known."""
        self.reward = reward
        self.takes_tokens = tokenizer is not None and _is_same(reward.model.tokenizer, tokenizer)
        self._last: tuple[ScoringBatch, tuple[Tensor, dict[int, str]]] | None = None

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the model's heads."""
        return self.reward.model.heads

    def score(self, batch: ScoringBatch) -> tuple[Tensor, dict[int, str]]:
        """Return normalised scores (b, h), NaN where a completion cannot be scored, and the reasons."""
        if self._last is None or self._last[0] is not batch:
            self._last = batch, self._score(batch)
        return self._last[1]

    def _score(self, batch: ScoringBatch) -> tuple[Tensor, dict[int, str]]:
        scores = torch.full((len(batch), len(self.heads)), float("nan"))
        reasons: dict[int, str] = {}
        trees, rows, start = [], [], 0
        for k, (prompt, group) in enumerate(zip(batch.prompts, batch.groups, strict=True)):
            numbers = range(start, start + len(group))
            start += len(group)
            try:
                tree = self._tree(prompt, group, batch.trees[k] if batch.trees is not None else None)
            except Unusable as error:
                reasons |= dict.fromkeys(numbers, error.reason)
                continue
            limit = self.reward.model.max_tokens or NO_LIMIT
            lengths = [len(tree.trunk) + len(branch.ids) for branch in tree.branches]
            reasons |= {
                row: f"too long for the reward model: {n} tokens, it takes {limit}"
                for row, n in zip(numbers, lengths, strict=True)
                if n > limit
            }
            fitting = [j for j, n in enumerate(lengths) if n <= limit]
            if fitting:
                trees.append(Tree(tree.trunk, tuple(tree.branches[j] for j in fitting)))
                rows += [numbers[j] for j in fitting]
        if rows:
            scores[rows] = self.reward.score_trees(trees)
        reasons |= {row: "the model gave no finite number" for row in rows if not scores[row].isfinite().all()}
        scores[sorted(reasons)] = float("nan")
        return scores, reasons

    def _tree(self, prompt: Prompt, group: Sequence[Completion], sampled: Tree | None) -> Tree:
        if not self.takes_tokens:
            return self.reward.tree(prompt, [replace(completion, ids=()) for completion in group], NO_LIMIT)
        return self.reward.tree(prompt, group, NO_LIMIT) if sampled is None else sampled


def _is_same(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    """Whether both tokenizers turn the same conversation and completion into the same ids."""
    return (one.get_vocab(), one.chat_template, one.eos_token_id) == (other.get_vocab(), other.chat_template, other.eos_token_id)


class ModelScorer:
    """One or several reward models as a part of a reward: one score per head, from all members together."""

    def __init__(self, members: Sequence[HeadScorer], heads: Sequence[str], ensemble: Ensemble) -> None:
        self._members, self._heads, self._ensemble = members, heads, ensemble

    def score(self, batch: ScoringBatch) -> PartScores:
        """Score all completions; one that some member cannot score has no score."""
        reasons: dict[int, str] = {}
        tables = []
        for member in self._members:
            scores, failed = member.score(batch)
            reasons = {**failed, **reasons}
            tables.append(scores[:, [member.heads.index(head) for head in self._heads]])
        table = self._ensemble(torch.stack(tables))
        return PartScores({head: table[:, k] for k, head in enumerate(self._heads)}, reasons)

    def close(self) -> None:
        """Do nothing: models start no processes."""

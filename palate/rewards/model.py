"""A reward from one or several reward models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from palate.config.types import Input
from palate.core import Completion, ConfigError, Prompt
from palate.rewards.batch import PartScores, ScoringBatch, ScoringContext
from palate.rewards.common import Constraint, check_shaping
from palate.rewards.ensemble import Ensemble, Mean
from palate.rewards.learned import LearnedReward
from palate.text.pack import Tree
from palate.text.spans import NO_LIMIT
from palate.text.template import Unusable

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class ModelReward:
    """One or several reward models: the sum of their normalised heads.

    Where model and policy have the same tokenizer, chat template and end token, the sampled tokens are scored, else the texts.

    Attributes:
        model: a reward model, or the run that trained it; several are an ensemble.
        heads: heads that count; all of them where none is named.
        ensemble: how several models' scores become one, head by head.
        weight: what its score counts in the sum; 0 only records it.
        normalise: scale by mean and standard deviation of all scores so far; a model that Palate trained is normalised already.
        floor: the least score; lower ones count as this.
        ceiling: the largest score.
        constraint: a level its mean must stay above, instead of a weight.
    """

    kind: Literal["model"] = "model"
    model: tuple[Input, ...]
    heads: tuple[str, ...] = ()
    ensemble: Ensemble = Mean()
    weight: float = 1.0
    normalise: bool = False
    floor: float | None = None
    ceiling: float | None = None
    constraint: Constraint | None = None

    def __post_init__(self) -> None:
        """Checks the settings."""
        if len(set(self.heads)) < len(self.heads):
            raise ConfigError(f"model: heads names something twice: {', '.join(self.heads)}")
        if not self.model:
            raise ConfigError("model: needs a reward model or more")
        if len(self.model) == 1 and self.ensemble != Mean():
            raise ConfigError(f"model: ensemble {self.ensemble.kind} needs two reward models or more, got one")
        check_shaping(self.kind, self)

    def open(self, context: ScoringContext) -> ModelScorer:
        """The models, loaded."""
        members = [context.member(path) for path in self.model]
        dimensions = self.heads or members[0].reward.model.heads
        for path, member in zip(self.model, members, strict=True):
            heads = member.reward.model.heads
            if not set(dimensions) <= set(heads) or (not self.heads and set(heads) != set(dimensions)):
                raise ConfigError(
                    f"rewards.{context.name}: {path} has the heads {', '.join(heads)}, wanted are {', '.join(dimensions)}; "
                    "name dimensions that all models have"
                )
        return ModelScorer(members, dimensions, self.ensemble)


class Member:
    """A reward model that several parts may share: a batch is scored once."""

    def __init__(self, reward: LearnedReward, tokenizer: PreTrainedTokenizerBase | None) -> None:
        """`tokenizer`: the policy's; None where only texts are known."""
        self.reward = reward
        self.takes_tokens = tokenizer is not None and _is_same(reward.model.tokenizer, tokenizer)
        self._last: tuple[ScoringBatch, tuple[Tensor, dict[int, str]]] | None = None

    def score(self, batch: ScoringBatch) -> tuple[Tensor, dict[int, str]]:
        """Normalised scores (b, h), NaN for those that cannot be scored, and the reasons."""
        if self._last is None or self._last[0] is not batch:
            self._last = batch, self._score(batch)
        return self._last[1]

    def _score(self, batch: ScoringBatch) -> tuple[Tensor, dict[int, str]]:
        scores = torch.full((len(batch), len(self.reward.model.heads)), float("nan"))
        reasons: dict[int, str] = {}
        trees, rows, at = [], [], 0
        for k, (prompt, group) in enumerate(zip(batch.prompts, batch.groups, strict=True)):
            own = range(at, at + len(group))
            at += len(group)
            try:
                tree = self._tree(prompt, group, batch.trees[k] if batch.trees is not None else None)
            except Unusable as error:
                reasons |= dict.fromkeys(own, error.reason)
                continue
            limit = self.reward.model.max_tokens or NO_LIMIT
            lengths = [len(tree.trunk) + len(branch.ids) for branch in tree.branches]
            reasons |= {
                row: f"too long for the reward model: {n} tokens, it takes {limit}"
                for row, n in zip(own, lengths, strict=True)
                if n > limit
            }
            kept = [j for j, n in enumerate(lengths) if n <= limit]
            if kept:
                trees.append(Tree(tree.trunk, tuple(tree.branches[j] for j in kept)))
                rows += [own[j] for j in kept]
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
    """Whether ids of one are what the other would have made of the same conversation and completion."""
    return (one.get_vocab(), one.chat_template, one.eos_token_id) == (other.get_vocab(), other.chat_template, other.eos_token_id)


class ModelScorer:
    """Reward models as a part: a score for each dimension, of all members together."""

    def __init__(self, members: Sequence[Member], dimensions: Sequence[str], ensemble: Ensemble) -> None:
        self._members, self._axes, self._ensemble = members, dimensions, ensemble

    def score(self, batch: ScoringBatch) -> PartScores:
        """Scores by dimension; a completion that one member cannot score has none."""
        reasons: dict[int, str] = {}
        tables = []
        for member in self._members:
            scores, failed = member.score(batch)
            reasons = {**failed, **reasons}
            heads = member.reward.model.heads
            tables.append(scores[:, [heads.index(dimension) for dimension in self._axes]])
        found = self._ensemble(torch.stack(tables))
        dimensions: Mapping[str, Tensor] = {dimension: found[:, k] for k, dimension in enumerate(self._axes)}
        return PartScores(dimensions, reasons)

    def close(self) -> None:
        """Nothing; models need no closing."""

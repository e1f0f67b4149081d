"""A part of a reward from one reward model, or from an ensemble of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from palate.config.types import RewardInput
from palate.core import ConfigError
from palate.rewards.batch import HeadScorer, PartScores, ScoringBatch, ScoringContext
from palate.rewards.ensemble import Ensemble, Mean
from palate.rewards.ensemble_members import EnsembleMember, distinct_models, members_of, require_alike
from palate.rewards.learned import LearnedReward
from palate.rewards.part import PartSettings


@dataclass(frozen=True, kw_only=True)
class ModelReward(PartSettings):
    """One or several reward models: the sum of their normalised heads.

    The sampled tokens are scored where model and policy have the same tokenizer, chat template and end token; otherwise the texts are.

    Attributes:
        model: a reward model or the run that trained it; several make an ensemble, and so do the members of one run.
        heads: heads that count; all of them by default.
        ensemble: how the scores of several models become one, for each head.
    """

    kind: Literal["model"] = "model"
    model: tuple[RewardInput, ...]
    heads: tuple[str, ...] = ()
    ensemble: Ensemble = Mean()

    def __post_init__(self) -> None:
        """Check the settings."""
        if len(set(self.heads)) < len(self.heads):
            raise ConfigError(f"model: heads names a head twice: {', '.join(self.heads)}")
        if not self.model:
            raise ConfigError("model: needs at least one reward model")
        self.check_shaping()

    def open(self, context: ScoringContext) -> ModelScorer:
        """Load the models."""
        distinct_models(self.model)
        scorers = [scorer for path in self.model for scorer in context.members(path)]
        members = [scorer.member for scorer in scorers]
        for member in members:
            member.reward.require_no_rules(member.path)
        if len(members) == 1 and self.ensemble != Mean():
            raise ConfigError(
                f"rewards.{context.name}: ensemble {self.ensemble.kind} needs two reward models or more, got one. Name others, or leave "
                "out ensemble"
            )
        wanted = self.heads or members[0].dimensions
        for member in members:
            if not set(wanted) <= set(member.dimensions) or (not self.heads and set(member.dimensions) != set(wanted)):
                raise ConfigError(
                    f"rewards.{context.name}: {member.name} has the heads {', '.join(member.dimensions)}, not {', '.join(wanted)}; "
                    "name heads that all models have"
                )
        require_alike({member.path: member.reward for member in members})
        return ModelScorer(scorers, wanted, self.ensemble)


class SharedModel:
    """A reward model that several parts, or several members of an ensemble, may share: it scores each batch once."""

    def __init__(self, reward: LearnedReward) -> None:
        self._reward = reward
        self._last: tuple[ScoringBatch, tuple[Tensor, dict[int, str]]] | None = None

    def table(self, batch: ScoringBatch) -> tuple[Tensor, dict[int, str]]:
        """Return normalised scores (b, heads of the model), NaN where a completion cannot be scored, and the reasons."""
        if self._last is None or self._last[0] is not batch:
            self._last = batch, self._reward.table(batch.prompts, batch.groups, batch.trees)
        return self._last[1]


@dataclass(frozen=True)
class Member:
    """A member of an ensemble that scores batches; a reward model alone is the only member."""

    member: EnsembleMember
    model: SharedModel

    @staticmethod
    def all_of(path: str, reward: LearnedReward) -> tuple[Member, ...]:
        """Return the members that the model at `path` holds."""
        model = SharedModel(reward)
        return tuple(Member(member, model) for member in members_of(path, reward))

    def score(self, batch: ScoringBatch) -> tuple[Tensor, dict[int, str]]:
        """Return normalised scores (b, h), NaN where a completion cannot be scored, and the reasons."""
        table, reasons = self.model.table(batch)
        return self.member.normalised(table), reasons


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
            tables.append(scores[:, [member.member.dimensions.index(head) for head in self._heads]])
        table = self._ensemble(torch.stack(tables))
        return PartScores({head: table[:, k] for k, head in enumerate(self._heads)}, reasons)

    def close(self) -> None:
        """Do nothing: models start no processes."""

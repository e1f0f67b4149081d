"""A part of a reward from one reward model, or from an ensemble of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from palate.config.types import Input
from palate.core import ConfigError
from palate.rewards.batch import HeadScorer, PartScores, ScoringBatch, ScoringContext
from palate.rewards.ensemble import Ensemble, Mean
from palate.rewards.learned import LearnedReward
from palate.rewards.part import PartSettings


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

    def __init__(self, reward: LearnedReward) -> None:
        self.reward = reward
        self._last: tuple[ScoringBatch, tuple[Tensor, dict[int, str]]] | None = None

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the model's heads."""
        return self.reward.model.heads

    def score(self, batch: ScoringBatch) -> tuple[Tensor, dict[int, str]]:
        """Return normalised scores (b, h), NaN where a completion cannot be scored, and the reasons."""
        if self._last is None or self._last[0] is not batch:
            self._last = batch, self.reward.table(batch.prompts, batch.groups, batch.trees)
        return self._last[1]


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

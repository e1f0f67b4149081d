"""How scores by dimension become one number, and reward models that score together: one, or an ensemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from palate.config.answers import LARGEST
from palate.config.artifacts import model_at
from palate.config.settings import nearest
from palate.core import Completion, ConfigError, Prompt
from palate.models.precision import DType
from palate.rewards.ensemble import Ensemble, Mean
from palate.rewards.ensemble_members import distinct_models, has_adapters, members_of, require_alike, share_bases
from palate.rewards.learned import LearnedReward
from palate.text.spans import NO_LIMIT

Combine = Literal["sum", "mean", "min", "max"]


@dataclass(frozen=True)
class Combination:
    """The dimensions that count, and how their scores become one.

    Attributes:
        dimensions: names of heads, in the order of the columns that a call takes.
        weights: one per dimension.
        combine: the weighted sum, the weighted mean, or the lowest or highest of the scores, which take no weights.
    """

    dimensions: tuple[str, ...]
    weights: tuple[float, ...]
    combine: Combine = "sum"

    @staticmethod
    def of(
        heads: Sequence[str], dimensions: Sequence[str] = (), weights: Mapping[str, float] | None = None, combine: Combine = "sum"
    ) -> Combination:
        """Return the combination of some dimensions, by default of all heads, each with weight 1.

        Raises:
            ConfigError: a name is not that of a head, a dimension has no weight where others have one, or weights stand beside min or max.
        """
        for name in (*dimensions, *(weights or {})):
            if name not in heads:
                raise ConfigError(f"the reward model has no dimension {name!r}. {nearest(name, heads)}")
        wanted = tuple(dict.fromkeys(dimensions or heads))
        if not weights:
            return Combination(wanted, (1.0,) * len(wanted), combine)
        if combine in ("min", "max"):
            raise ConfigError(
                f"weights have no meaning for {combine}, which takes one of the scores. Use sum or mean, or leave out weights."
            )
        if absent := [name for name in wanted if name not in weights]:
            raise ConfigError(
                f"weights: {absent[0]} has no weight, and others have one. Give it a weight, or leave it out of the dimensions."
            )
        if others := [name for name in weights if name not in wanted]:
            raise ConfigError(
                f"weights: {others[0]} is not among the dimensions {', '.join(wanted)}. Add it there, or leave out its weight."
            )
        is_none = not any(weights.values()) or (combine == "mean" and not sum(weights.values()) > 0)
        if is_none or not all(abs(weight) <= LARGEST for weight in weights.values()):
            raise ConfigError(
                f"weights must be at most {LARGEST:g} in size and not all 0, with a sum above 0 for mean; got {dict(weights)}"
            )
        return Combination(wanted, tuple(weights[name] for name in wanted), combine)

    def __call__(self, scores: Tensor) -> Tensor:
        """Return one number (b,) per completion from scores (b, h) by dimension."""
        if self.combine == "min":
            return scores.amin(1)
        if self.combine == "max":
            return scores.amax(1)
        weights = scores.new_tensor(self.weights)
        return scores @ weights if self.combine == "sum" else scores @ weights / weights.sum()


@dataclass(frozen=True)
class GroupScores:
    """The scores of b completions.

    Attributes:
        members: normalised scores (m, b, h) by model and head.
        scores: scores (b, h) by head, after the ensemble.
        reasons: why a completion has no score, by its number; its row is NaN.
    """

    members: Tensor
    scores: Tensor
    reasons: Mapping[int, str]


class RewardModels:
    """One reward model, or several that make an ensemble. They read texts, each in its own tokens."""

    def __init__(self, rewards: Mapping[str, LearnedReward], ensemble: Ensemble | None = None, max_tokens: int | None = None) -> None:
        """Take the loaded models by path. What has more than `max_tokens` in a model's own tokens has no score.

        Raises:
            ConfigError: one member has an ensemble's rule; the models have other tokens, contexts or heads; or only some of them have
                normalised scores.
            ModelError: a model is a classifier of rules.
        """
        for path, reward in rewards.items():
            reward.require_no_rules(path)
        self.members = {one.name: one for path, reward in rewards.items() for one in members_of(path, reward)}
        """The members of the ensemble by name; the model itself where there is no ensemble."""
        self._ensemble = ensemble or Mean()
        if len(self.members) == 1 and self._ensemble != Mean():
            raise ConfigError("an ensemble's rule needs two models or more, got one. Name others, or leave the rule out.")
        first, *others = self.members.values()
        self.heads = first.dimensions
        """Names of the dimensions, in the order of the first model."""
        for one in others:
            if set(one.dimensions) != set(self.heads):
                theirs = ", ".join(one.dimensions)
                raise ConfigError(
                    f"{one.name} has the dimensions {theirs}, and {first.name} has {', '.join(self.heads)}. An ensemble needs the same."
                )
        raw = [one.name for one in self.members.values() if not one.is_normalised]
        if 0 < len(raw) < len(self.members):
            raise ConfigError(
                f"{raw[0]} gives raw scores, and another member of the ensemble normalised ones: they have different units. "
                "Use models that `palate reward` trained, or raw ones only."
            )
        require_alike(rewards)
        self._max_tokens = max_tokens

    @staticmethod
    def load(
        paths: Sequence[str], ensemble: Ensemble | None = None, dtype: DType = "float32", max_tokens: int | None = None
    ) -> RewardModels:
        """Load the models at the paths, or of the runs that trained them. A run that trained an ensemble means all its members.

        Raises:
            ConfigError: a model stands twice, or as `RewardModels`.
            ModelError: a path has no reward model.
        """
        each = distinct_models(paths)
        merges = not has_adapters(each)
        rewards = {path: LearnedReward.load(model_at(path), dtype=dtype, merge_adapter=merges) for path in each}
        share_bases(rewards.values())
        return RewardModels(rewards, ensemble, max_tokens)

    @property
    def first(self) -> LearnedReward:
        """The first model."""
        return next(iter(self.members.values())).reward

    def score(self, prompts: Sequence[Prompt], groups: Sequence[Sequence[Completion]]) -> GroupScores:
        """Score all completions, groups in order. Other completions in the call change a score by rounding only, below 1e-5 in float32."""
        tables, reasons, known = [], dict[int, str](), dict[str, Tensor]()
        for member in self.members.values():
            if member.path not in known:
                known[member.path], failed = self._table(member.reward, prompts, groups)
                named = f" ({member.path})" if len(self.members) > 1 else ""
                reasons = {**{row: f"{reason}{named}" for row, reason in failed.items()}, **reasons}
            tables.append(member.normalised(known[member.path])[:, [member.dimensions.index(head) for head in self.heads]])
        members = torch.stack(tables)
        return GroupScores(members, self._ensemble(members), reasons)

    def _table(
        self, member: LearnedReward, prompts: Sequence[Prompt], groups: Sequence[Sequence[Completion]]
    ) -> tuple[Tensor, dict[int, str]]:
        """Return scores and reasons of one model; a completion that spoils the tree of its group does not spoil the others' scores."""
        table, reasons = member.table(prompts, groups)
        each = [(prompt, completion) for prompt, group in zip(prompts, groups, strict=True) for completion in group]
        sizes = [len(group) for group in groups for _ in group]
        again = [row for row in sorted(reasons) if sizes[row] > 1]
        if again:
            alone, failed = member.table([each[row][0] for row in again], [[each[row][1]] for row in again])
            table[again] = alone
            reasons = {row: reason for row, reason in reasons.items() if row not in again} | {again[k]: why for k, why in failed.items()}
        if self._max_tokens is not None:
            for row, (prompt, completion) in enumerate(each):
                if row not in reasons and (count := tokens_of(member, prompt, completion)) > self._max_tokens:
                    reasons[row] = f"too long: {count} tokens, the limit is {self._max_tokens}"
                    table[row] = float("nan")
        return table, reasons

    def raw(self, members: Tensor) -> Tensor:
        """Return raw scores (m, b, h), in logits, from normalised ones."""
        return torch.stack([one.raw(table, self.heads) for one, table in zip(self.members.values(), members, strict=True)])


def tokens_of(member: LearnedReward, prompt: Prompt, completion: Completion) -> int:
    """Return the number of tokens of a prompt with its completion."""
    tree = member.tree(prompt, [completion], NO_LIMIT)
    return len(tree.trunk) + len(tree.branches[0].ids)

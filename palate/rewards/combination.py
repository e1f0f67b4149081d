"""How scores by dimension become one number, and reward models that score together: one, or an ensemble."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from palate.config.artifacts import model_at
from palate.config.settings import nearest
from palate.core import Completion, ConfigError, Prompt
from palate.models.precision import DType
from palate.models.reward_file import Normalisation
from palate.rewards.ensemble import Ensemble, Mean
from palate.rewards.learned import LearnedReward
from palate.text.spans import NO_LIMIT
from palate.text.tokens import tokenizer_digest

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
                f"weights: {absent[0]} has no weight. Give each of {', '.join(wanted)} one, or leave it out of the dimensions."
            )
        if others := [name for name in weights if name not in wanted]:
            raise ConfigError(
                f"weights: {others[0]} is not among the dimensions {', '.join(wanted)}. Add it there, or leave out its weight."
            )
        if not all(map(math.isfinite, weights.values())) or (combine == "mean" and not sum(weights.values()) > 0):
            raise ConfigError(f"weights must be finite numbers, with a sum above 0 for mean; got {dict(weights)}")
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

    def __init__(self, members: Mapping[str, LearnedReward], ensemble: Ensemble, max_tokens: int | None = None) -> None:
        """Take the loaded models by path. What has more than `max_tokens` in a model's own tokens has no score.

        Raises:
            ConfigError: the models have other heads, or only some of them have normalised scores.
        """
        self.members, self._ensemble = members, ensemble
        first, *others = members
        self.heads = members[first].model.heads
        """Names of the dimensions, in the order of the first model."""
        for path in others:
            if set(members[path].model.heads) != set(self.heads):
                theirs = ", ".join(members[path].model.heads)
                raise ConfigError(
                    f"{path} has the dimensions {theirs}, and {first} has {', '.join(self.heads)}. An ensemble needs the same."
                )
        raw = [path for path, one in members.items() if not is_normalised(one)]
        if 0 < len(raw) < len(members):
            raise ConfigError(
                f"{raw[0]} gives raw scores, and another member of the ensemble normalised ones: they have different units. "
                "Use models that `palate reward` trained, or raw ones only."
            )
        self._max_tokens = max_tokens

    @staticmethod
    def load(
        paths: Sequence[str], ensemble: Ensemble | None = None, dtype: DType = "float32", max_tokens: int | None = None
    ) -> RewardModels:
        """Load the models at the paths, or of the runs that trained them.

        Raises:
            ConfigError: a model stands twice, one model has an ensemble's rule, or as `RewardModels`.
            ModelError: a path has no reward model.
        """
        if len(set(paths)) < len(paths):
            raise ConfigError(f"the ensemble names a model twice: {', '.join(paths)}. Name each once.")
        if len(paths) == 1 and ensemble not in (None, Mean()):
            raise ConfigError("an ensemble's rule needs two models or more, got one. Name others, or leave the rule out.")
        models = {path: LearnedReward.load(model_at(path), dtype=dtype).share_out() for path in paths}
        return RewardModels(models, ensemble or Mean(), max_tokens)

    @property
    def first(self) -> LearnedReward:
        """The first model."""
        return next(iter(self.members.values()))

    def notes(self) -> tuple[str, ...]:
        """Return what the user should know about members that differ in tokenizer or context."""
        found = []
        if len({tokenizer_digest(one.model.tokenizer) for one in self.members.values()}) > 1:
            found.append("the members of the ensemble have different tokenizers: each reads the text in its own tokens")
        limits = {path: one.model.max_tokens for path, one in self.members.items()}
        if len(set(limits.values())) > 1:
            listed = ", ".join(f"{path} {limit or 'no limit'}" for path, limit in limits.items())
            found.append(
                f"the members of the ensemble take contexts of different lengths ({listed}): the shortest decides what has a score"
            )
        return tuple(found)

    def score(self, prompts: Sequence[Prompt], groups: Sequence[Sequence[Completion]]) -> GroupScores:
        """Score all completions, groups in order. Other completions in the call change a score by rounding only, below 1e-5 in float32."""
        tables, reasons = [], dict[int, str]()
        for path, member in self.members.items():
            table, failed = self._table(member, prompts, groups)
            tables.append(table[:, [member.model.heads.index(head) for head in self.heads]])
            named = f" ({path})" if len(self.members) > 1 else ""
            reasons = {**{row: f"{reason}{named}" for row, reason in failed.items()}, **reasons}
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
        return torch.stack([_raw(one, table, self.heads) for one, table in zip(self.members.values(), members, strict=True)])


def tokens_of(member: LearnedReward, prompt: Prompt, completion: Completion) -> int:
    """Return the number of tokens of a prompt with its completion."""
    tree = member.tree(prompt, [completion], NO_LIMIT)
    return len(tree.trunk) + len(tree.branches[0].ids)


def is_normalised(reward: LearnedReward) -> bool:
    """Return whether a model's scores have a scale of their own (`reward.json`) and are not raw logits."""
    heads = len(reward.model.heads)
    return reward.model.normalisation != Normalisation((1.0,) * heads, (0.0,) * heads)


def read_weights(words: Iterable[str]) -> dict[str, float]:
    """Return weights by dimension from words such as `helpful=2`.

    Raises:
        ConfigError: a word has another form, or a dimension stands twice.
    """
    weights: dict[str, float] = {}
    for word in words:
        name, equals, number = word.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not equals or not name or math.isnan(value):
            raise ConfigError(f"a weight is written DIMENSION=NUMBER, such as helpful=2; got {word!r}")
        if name in weights:
            raise ConfigError(f"weights: {name} stands twice. Give it one weight.")
        weights[name] = value
    return weights


def _raw(reward: LearnedReward, table: Tensor, heads: Sequence[str]) -> Tensor:
    norm, order = reward.model.normalisation, [reward.model.heads.index(head) for head in heads]
    gain, bias = table.new_tensor(norm.gain)[order], table.new_tensor(norm.bias)[order]
    return (table - bias) / gain

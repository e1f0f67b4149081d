"""A run's reward: named parts, normalised, bounded, weighted and constrained, added up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from palate.core import Completion, ConfigError, DataError, Prompt, TrainingError
from palate.rewards.batch import PartScorer, ScoringBatch, ScoringContext
from palate.rewards.function import FunctionReward
from palate.rewards.judge import JudgeReward
from palate.rewards.learned import LearnedReward
from palate.rewards.model import Member, ModelReward
from palate.rewards.moments import Moments
from palate.rewards.remote import HTTPReward
from palate.rewards.rules import RulesReward
from palate.rewards.scores import Failure, Scores
from palate.text.pack import Tree

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

RewardPart = ModelReward | FunctionReward | RulesReward | HTTPReward | JudgeReward
"""What a reward can be made of."""


class Composition:
    """Loaded parts of a reward, and what they learned: statistics of scores, multipliers of constraints."""

    def __init__(
        self, parts: Mapping[str, RewardPart], scorers: Mapping[str, PartScorer], models: Mapping[str, LearnedReward], max_failed: float
    ) -> None:
        self._parts, self._scorers, self._max_failed = parts, scorers, max_failed
        self.models = models
        """Reward models by the path that names them."""
        self._moments = {name: Moments() for name, part in parts.items() if part.normalise}
        self._multipliers = {name: part.constraint.init_multiplier for name, part in parts.items() if part.constraint is not None}

    @staticmethod
    def load(
        parts: Mapping[str, RewardPart],
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        locate: Callable[[str], str] = str,
        max_failed: float = 0.05,
        merge_adapters: bool = True,
    ) -> Composition:
        """The parts, their models loaded and their processes started.

        Args:
            parts: by name.
            tokenizer: the policy's; None where completions come from elsewhere, and then texts are scored.
            locate: where a model's path leads.
            max_failed: share of a batch's completions that a part may fail to score.
            merge_adapters: whether a reward model that was kept as an adapter is worked into its base, or left beside it.

        Raises:
            ConfigError: no part, a name that is no word, a function that cannot be imported, a model without the dimensions asked for.
        """
        if not parts:
            raise ConfigError("rewards: needs a part or more, such as `taste: {kind: model, model: $reward}`")
        if bad := [name for name in parts if not name or "/" in name]:
            raise ConfigError(
                f"rewards: a part's name must be a word without slashes, got {bad[0]!r}: dimensions are written part/dimension"
            )
        if not 0 <= max_failed < 1:
            raise ConfigError(f"max_failed must be a share from 0 to below 1, got {max_failed}")
        models: dict[str, LearnedReward] = {}

        @cache
        def member(path: str) -> Member:
            models[path] = LearnedReward.load(locate(path), merge_adapter=merge_adapters)
            return Member(models[path], tokenizer)

        scorers = {name: part.open(ScoringContext(name, tokenizer, member)) for name, part in parts.items()}
        return Composition(parts, scorers, models, max_failed)

    def score(
        self,
        prompts: Sequence[Prompt],
        groups: Sequence[Sequence[Completion]],
        trees: Sequence[Tree] | None = None,
        *,
        update: bool = True,
    ) -> Scores:
        """Scores of all completions, groups in order.

        Args:
            prompts: one a group.
            groups: completions of each prompt; `stop` says which were cut off.
            trees: their tokens as sampled, one tree a prompt; without them a model of the policy's tokenizer takes the completions' ids.
            update: whether statistics and multipliers learn from this batch.

        Raises:
            DataError: there is no completion.
            TrainingError: a part failed on more than the share `max_failed`.
        """
        batch = ScoringBatch(tuple(prompts), tuple(map(tuple, groups)), None if trees is None else tuple(trees))
        if not len(batch):
            raise DataError("nothing to score: there is no completion")
        table: dict[str, Tensor] = {}
        raw: dict[str, Tensor] = {}
        failures: list[Failure] = []
        for name, scorer in self._scorers.items():
            outcome = scorer.score(batch)
            table |= {f"{name}/{dimension}".rstrip("/"): column for dimension, column in outcome.dimensions.items()}
            raw[name] = torch.stack(list(outcome.dimensions.values())).sum(0)
            failures += [Failure(name, row, reason) for row, reason in sorted(outcome.reasons.items())]
            self._require_few(name, list(outcome.reasons.values()), len(batch))
        moments = {name: before.joined(raw[name]) for name, before in self._moments.items()}
        shaped = {name: self._shaped(name, raw[name], moments) for name in raw}
        scores = Scores(table, shaped, dict(self._multipliers), self._composed(shaped), tuple(failures))
        if update:
            self._moments = moments
            self._multipliers |= {name: self._next_multiplier(name, shaped[name]) for name in self._multipliers}
        return scores

    def state(self) -> dict[str, float]:
        """What was learned so far, for a checkpoint."""
        moments = {f"{name}.{word}": value for name, found in self._moments.items() for word, value in vars(found).items()}
        return {**moments, **{f"{name}.multiplier": value for name, value in self._multipliers.items()}}

    def restore(self, state: Mapping[str, float]) -> None:
        """Nothing; goes on from a checkpoint's numbers.

        Raises:
            TrainingError: they are of other parts.
        """
        if set(state) != set(self.state()):
            held, wanted = (", ".join(sorted(names)) or "nothing" for names in (state, self.state()))
            raise TrainingError(f"the checkpoint holds of the rewards {held}; these parts need {wanted}")
        self._moments = {name: Moments(*(state[f"{name}.{word}"] for word in ("count", "mean", "squares"))) for name in self._moments}
        self._multipliers = {name: state[f"{name}.multiplier"] for name in self._multipliers}

    def close(self) -> None:
        """Nothing; ends the parts' processes. Those of a composition that is dropped end as well."""
        for scorer in self._scorers.values():
            scorer.close()

    def _shaped(self, name: str, raw: Tensor, moments: Mapping[str, Moments]) -> Tensor:
        part = self._parts[name]
        scores = moments[name].standardised(raw) if name in moments else raw
        return scores if part.floor is None and part.ceiling is None else scores.clamp(part.floor, part.ceiling)

    def _composed(self, shaped: Mapping[str, Tensor]) -> Tensor:
        """(b,) rewards; see `Constraint` for the formula. A part of weight 0 is left out, so that its failures cost nothing."""
        total = torch.zeros_like(next(iter(shaped.values())))
        for name, part in self._parts.items():
            if part.constraint is not None:
                total = total + self._multipliers[name] * (shaped[name] - part.constraint.min_score)
            elif part.weight != 0:
                total = total + part.weight * shaped[name]
        return total / (1 + sum(self._multipliers.values()))

    def _next_multiplier(self, name: str, scores: Tensor) -> float:
        constraint, found = self._parts[name].constraint, scores[~scores.isnan()]
        if constraint is None or not len(found):
            return self._multipliers[name]
        return constraint.next_multiplier(self._multipliers[name], float(found.mean()))

    def _require_few(self, name: str, reasons: Sequence[str], count: int) -> None:
        if len(reasons) > self._max_failed * count:
            first = "; ".join(dict.fromkeys(reasons[:20]))[:600]
            raise TrainingError(
                f"rewards.{name} could not score {len(reasons)} of {count} completions ({len(reasons) / count:.0%}; max_failed allows "
                f"{self._max_failed:.0%}): {first}. Mend the part, or raise max_failed"
            )

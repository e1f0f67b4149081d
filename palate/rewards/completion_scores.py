"""Scores of completions outside of training: by one reward model, or by the parts of a reward."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, TypeVar

from torch import Tensor

from palate.config.artifacts import model_at, models_at
from palate.core import Completion, ConfigError, Prompt, TrainingError
from palate.models.precision import DType
from palate.rewards.composition import Composition, RewardPart
from palate.rewards.learned import MAX_UNSCORED, LearnedReward
from palate.rewards.model import ModelReward
from palate.runs.run import Run

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

T = TypeVar("T")


def require_one_reward(stage: str, reward: str | None, rewards: Mapping[str, RewardPart]) -> None:
    """Raise ConfigError unless there is either a reward model or parts of a reward."""
    if (reward is None) == (not rewards):
        raise ConfigError(f"{stage} needs a reward: name a reward model in reward, or parts in rewards, and not both")


def reward_models(reward: str | None, rewards: Mapping[str, RewardPart]) -> list[str]:
    """Return the paths of all reward models of a stage, members of ensembles one by one."""
    parts = [path for part in rewards.values() if isinstance(part, ModelReward) for path in part.model]
    return [member for path in (parts if reward is None else [reward]) for member in models_at(path)]


@dataclass(frozen=True)
class CompletionScores:
    """Scores of completions, in the order of the prompts and of their completions.

    Attributes:
        scores: a number per completion, None where it has no score.
        details: the scores of parts and heads, and what they were made of, by name: a number per completion, None where there is none.
    """

    scores: list[list[float | None]]
    details: list[list[dict[str, float | None]]]


@dataclass(frozen=True)
class CompletionScorer:
    """A reward model, or the parts of a reward, ready to score completions.

    Attributes:
        run: the run that scores.
        name: what messages call it.
        scorer: the reward model or the parts.
    """

    run: Run
    name: str
    scorer: LearnedReward | Composition

    @staticmethod
    def load(
        run: Run, reward: str | None, rewards: Mapping[str, RewardPart], sampled_with: PreTrainedTokenizerBase | None, dtype: DType
    ) -> CompletionScorer:
        """Load the reward model at `reward`, or the parts.

        Args:
            run: the run that scores.
            reward: the path of a reward model, or of an ensemble, whose members' mean is the score; None where there are parts.
            rewards: parts by name.
            sampled_with: the tokenizer that the completions' ids come from; None where only texts are known.
            dtype: the type that a reward model computes in.

        Raises:
            ConfigError: a part cannot be opened.
        """
        if reward is not None and len(models_at(reward)) == 1:
            return CompletionScorer(run, reward, LearnedReward.load(model_at(reward), sampled_with, dtype=dtype))
        if reward is not None:
            rewards = {"reward": ModelReward(model=(reward,))}
        parts = Composition.load(rewards, sampled_with, max_failed=MAX_UNSCORED, run=run)
        return CompletionScorer(run, f"rewards ({', '.join(rewards)})", parts)

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Check that the prompts have what the parts read of them. Raises DataError."""
        if isinstance(self.scorer, Composition):
            self.scorer.check_prompts(prompts)

    def scores(self, prompts: Sequence[Prompt], groups: Sequence[Sequence[Completion]]) -> CompletionScores:
        """Score all completions, record in the run why some have no score, and close the parts.

        Raises:
            DataError: a reward model cannot score more than half of the completions.
            TrainingError: a part cannot score more than half of the completions.
        """
        if isinstance(self.scorer, LearnedReward):
            learned = self.scorer.scores_of(self.run, self.name, prompts, groups)
            return CompletionScores(learned, [[{} for _ in group] for group in groups])
        try:
            found = self.scorer.score(prompts, groups)
        finally:
            self.scorer.close()
        for name in dict.fromkeys(failure.part for failure in found.failures):
            reasons = [failure.reason.split(":")[0] for failure in found.failures if failure.part == name]
            self.run.dropped(f"completions without a score by rewards.{name}", reasons)
        columns = {name: _known(column) for name, column in found.table.items()}
        details = [{name: column[row] for name, column in columns.items()} for row in range(len(found.rewards))]
        return CompletionScores(_by_prompt(_known(found.rewards), groups), _by_prompt(details, groups))

    def control_scores(self, prompts: Sequence[Prompt], answers: Sequence[Completion]) -> list[float | None]:
        """Score texts that no model wrote, one per prompt, None where there is no score. The run records no reasons, and goes on."""
        groups = [[answer] for answer in answers]
        if isinstance(self.scorer, LearnedReward):
            return _known(self.scorer.table(prompts, groups)[0].sum(1))
        try:
            return _known(self.scorer.score(prompts, groups).rewards)
        except TrainingError:  # more than half of them have no score
            return [None] * len(answers)


def _known(column: Tensor) -> list[float | None]:
    """Return the values of a column, None for NaN."""
    return [None if math.isnan(value) else value for value in column.tolist()]


def _by_prompt(rows: Sequence[T], groups: Sequence[Sequence[Completion]]) -> list[list[T]]:
    """Return the rows of all completions as a list per prompt."""
    ends = accumulate(map(len, groups))
    return [list(rows[end - len(group) : end]) for end, group in zip(ends, groups, strict=True)]

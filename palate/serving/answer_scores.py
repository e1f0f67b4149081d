"""Scores of answers by reward models, in a thread of their own so that the server goes on meanwhile."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from palate.core import Completion, ConfigError, Prompt
from palate.rewards.combination import Combination, RewardModels
from palate.serving.api_errors import ApiError


@dataclass(frozen=True)
class AnswerScore:
    """The score of one answer.

    Attributes:
        score: the weighted sum of its dimensions; None where it has none.
        scores: by dimension.
        reason: why it has no score.
    """

    score: float | None
    scores: Mapping[str, float]
    reason: str = ""


class AnswerScorer:
    """Reward models that score one group of answers after the other."""

    def __init__(self, models: RewardModels) -> None:
        self._models = models
        self._thread = ThreadPoolExecutor(1, "palate reward")

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The names of the dimensions."""
        return tuple(self._models.heads)

    def combination(self, dimensions: Sequence[str], weights: Mapping[str, float]) -> Combination:
        """Return how dimensions become one number; weights alone name the dimensions that count.

        Raises:
            ApiError: a dimension is unknown, or a weight cannot be.
        """
        try:
            return Combination.of(self.dimensions, tuple(dimensions) or tuple(weights), weights)
        except ConfigError as error:
            raise ApiError(400, str(error), "invalid_value", param="weights" if weights else "dimensions") from error

    async def scores(self, prompt: Prompt, completions: Sequence[Completion], combination: Combination) -> list[AnswerScore]:
        """Return the score of each completion of the prompt."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._scores, prompt, completions, combination)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(cancel_futures=True)

    def _scores(self, prompt: Prompt, completions: Sequence[Completion], combination: Combination) -> list[AnswerScore]:
        found = self._models.score([prompt], [completions])
        wanted = [self._models.heads.index(name) for name in combination.dimensions]
        totals = combination(found.scores[:, wanted]).tolist()
        results = []
        for row, (total, own) in enumerate(zip(totals, found.scores.tolist(), strict=True)):
            reason = found.reasons.get(row, "" if math.isfinite(total) else "the model gave no finite number")
            known = {name: value for name, value in zip(self.dimensions, own, strict=True) if math.isfinite(value)}
            results.append(AnswerScore(None if reason else total, {} if reason else known, reason))
        return results

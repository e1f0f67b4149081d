"""A part of a reward from a judge that compares the completions of a prompt with one another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

import numpy as np
import torch

from palate.agreement.strengths import bradley_terry
from palate.config.answers import Score
from palate.config.artifacts import file_at
from palate.config.types import Amount, Input
from palate.core import Completion, ConfigError, Conversation, DataError, PalateError, Prompt
from palate.data.formats import read_samples
from palate.judges.both_orders import Pair, second_wins
from palate.judges.instruction_files import Instructions, InstructionsInput, load_instructions
from palate.judges.judge_kinds import JudgeModelKind
from palate.judges.judge_model import JudgeModel
from palate.judges.judge_summary import note_uncalibrated
from palate.judges.judge_views import Judge
from palate.judges.verdicts import Abstention, OptionProbabilities, VerdictKind
from palate.rewards.batch import PartScorer, PartScores, ScoringBatch, ScoringContext
from palate.rewards.part import PartSettings

COMPARE = "Compare its verdicts with people's by `palate judge-fit`"
"""What to do about a judge that nobody measured."""

AGAINST_START = "against_start"
"""Name of the detail that holds how likely a completion beats the first policy's answer to its prompt."""


@dataclass(frozen=True, kw_only=True)
class PairwiseReward(PartSettings):
    """A model that compares every two completions of a prompt, each pair in both orders.

    The score says how a completion does against the others of its prompt. So the mean score of a prompt says nothing, and does not rise
    while the policy learns. `start` gives a figure that does. k completions cost k (k - 1) questions per prompt.

    Attributes:
        model: the model that judges: behind an OpenAI-compatible API, in this process, or a Python function.
        instructions: the name of pairwise instructions that Palate ships, or the path of a file.
        verdict: how the verdict is obtained: the probabilities of the options, the shares of several samples, or a written verdict.
        score: win_rate is the mean probability of winning, from 0 to 1. bradley_terry is the log-strength among the prompt's completions,
            in nats around 0.
        pull: with bradley_terry, wins and losses that each completion has in advance against one of strength 0.
        start: answers of the policy as it starts. How often completions beat them is recorded. The score does not contain it. It costs two
            questions per completion.
    """

    kind: Literal["pairwise"] = "pairwise"
    model: JudgeModelKind
    instructions: InstructionsInput
    verdict: VerdictKind = field(default_factory=OptionProbabilities)
    score: Literal["win_rate", "bradley_terry"] = "win_rate"
    pull: Amount = 0.5
    start: Input | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        self.check_shaping()

    @property
    def is_calibrated(self) -> bool:
        """False: a score is about the completions beside it, so that no report card could say what it is worth."""
        return False

    @property
    def compares_siblings(self) -> bool:
        """True: a completion alone has no score."""
        return True

    def open(self, context: ScoringContext) -> PartScorer:
        """Return a scorer with the model, whose ledger lies in the run's directory; nothing is asked yet.

        Raises:
            ConfigError: the instructions do not exist or are not for pairs, the model cannot answer them, or there is no run.
            DataError: the answers of the start cannot be read.
        """
        at, instructions = f"rewards.{context.name}", load_instructions(self.instructions)
        if instructions.scale != "pairwise":
            raise ConfigError(f"{at}: instructions {instructions.id} have scale: {instructions.scale}; use pairwise ones")
        if instructions.takes_principle:
            raise ConfigError(f"{at}: instructions {instructions.id} ask about a principle; a reward has none, so write it into them")
        self.model.check(self.verdict.options(instructions), self.verdict.draws)
        if context.run is None:
            raise ConfigError(f"{at}: a judge keeps its answers in the directory of a run, and there is none")
        start = self._start()
        model = self.model.open(context.run)
        version = instructions.version(self.verdict.kind, reasons_first=False)
        try:
            note_uncalibrated(context.run, at, Judge(model.name, instructions, None, version).name, COMPARE)
        except PalateError:
            model.close()
            raise
        return _PairwiseScorer(self, instructions, model, start)

    def check_prompts(self, prompts: Sequence[Prompt], name: str) -> None:
        """Check that the start has answered some of the prompts. Raises DataError."""
        answered = self._start()
        if self.start is not None and not any(prompt.conversation in answered for prompt in prompts):
            raise DataError(f"{name}.start: {self.start} has no answer to any of the prompts. Sample it from the same prompts")

    def _start(self) -> dict[Conversation, Completion]:
        """Return the first answer to each prompt of the start."""
        if self.start is None:
            return {}
        rows = read_samples(file_at(self.start, "samples.jsonl")).rows
        return {prompt.conversation: group[0] for prompt, group in reversed(rows) if group}


@dataclass(frozen=True)
class _PairwiseScorer:
    config: PairwiseReward
    instructions: Instructions
    model: JudgeModel
    start: dict[Conversation, Completion]

    def score(self, batch: ScoringBatch) -> PartScores:
        """Compare every two completions of each prompt, and every completion with the start's answer to its prompt."""
        starts = [self.start.get(prompt.conversation) for prompt, _ in batch.each]
        pairs = [
            (prompt, one, other) for prompt, group in zip(batch.prompts, batch.groups, strict=True) for one, other in combinations(group, 2)
        ]
        pairs += [(prompt, start, own) for (prompt, own), start in zip(batch.each, starts, strict=True) if start is not None]
        verdicts = self._verdicts(pairs)
        scores: list[Score] = []
        details: list[tuple[float, float]] = []
        for group in batch.groups:
            second = np.full((len(group), len(group)), np.nan)  # how likely the column's completion beats the row's
            for one, other in combinations(range(len(group)), 2):
                second[one, other] = next(verdicts)
                second[other, one] = 1 - second[one, other]
            scores += self._scores(second.T)
            details += _decided(second)
        against = [math.nan if start is None else next(verdicts) for start in starts]
        columns = {name: torch.tensor(values) for name, values in zip(("decided", "abstained"), zip(*details, strict=True), strict=True)}
        if self.start:
            columns[AGAINST_START] = torch.tensor(against)
        outcome = PartScores.of(scores)
        return PartScores(outcome.heads, outcome.reasons, columns)

    def close(self) -> None:
        """Close the model."""
        self.model.close()

    def _verdicts(self, pairs: Sequence[Pair]) -> Iterator[float]:
        """Yield how likely the second completion of each pair is the better one; NaN where the judge abstains."""
        given = second_wins(self.model, pairs, self.instructions, self.config.verdict)
        return (math.nan if isinstance(one, Abstention) else one for one in given)

    def _scores(self, wins: np.ndarray) -> list[Score]:
        """Return a score per completion from wins (k, k), how likely the row's beats the column's; NaN is not known."""
        known = ~np.isnan(wins)
        judged = known.any(1)
        if self.config.score == "win_rate":
            found = np.nansum(wins, 1) / np.maximum(known.sum(1), 1)
        else:
            found = np.zeros(len(wins))
            if judged.any():
                found[judged] = bradley_terry(np.nan_to_num(wins[np.ix_(judged, judged)]), self.config.pull)
        alone = "there is no other completion of its prompt to compare it with"
        reason = alone if len(wins) == 1 else f"{self.model.name} gave no verdict on any of its pairs"
        return [float(score) if has else reason for score, has in zip(found, judged, strict=True)]


def _decided(second: np.ndarray) -> list[tuple[float, float]]:
    """Return per completion how decided the judge was on its pairs, mean |2 p - 1|, and the share of them without a verdict."""
    pairs = max(len(second) - 1, 1)
    known = ~np.isnan(second)
    counts = known.sum(1)
    sure = np.nansum(np.abs(2 * second - 1), 1)
    return [(float(s / n) if n else math.nan, float(1 - n / pairs)) for s, n in zip(sure, counts, strict=True)]

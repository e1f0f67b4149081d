"""A part of a reward from a model that judges: it marks each completion by instructions, as a judge of stage `collect` does."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from palate.config.answers import Score
from palate.config.types import Input
from palate.core import Completion, ConfigError, Conversation, PalateError, Prompt
from palate.judges.instruction_files import Instructions, InstructionsInput, load_instructions
from palate.judges.judge_card import MarkCalibration, read_card
from palate.judges.judge_kinds import JudgeModelKind
from palate.judges.judge_model import JudgeModel, JudgeQuestion
from palate.judges.judge_summary import note_uncalibrated
from palate.judges.judge_views import Judge
from palate.judges.verdicts import Abstention, OptionProbabilities, VerdictKind, WrittenVerdict
from palate.rewards.batch import PartScorer, PartScores, ScoringBatch, ScoringContext
from palate.rewards.part import PartSettings
from palate.runs.run import Run


@dataclass(frozen=True, kw_only=True)
class JudgeReward(PartSettings):
    """A model that marks each completion.

    The score is the expected mark scaled to 0 (lowest) to 1 (highest). With a report card it is (mark - threshold) / temperature in nats:
    the difference of two scores is the log-odds that people prefer the one completion to the other.

    Attributes:
        model: the model that judges: behind an OpenAI-compatible API, in this process, or a Python function.
        instructions: the name of pointwise instructions that Palate ships, or the path of a file.
        verdict: how the mark is obtained: written at the end of a reply, the probabilities of the marks, or several samples.
        reasons_first: the judge reasons before its mark. Its reasons and a written mark are one reply.
        calibration: the report card of this judge, as `palate judge-fit` writes it. Without it all figures are named `uncalibrated`.
    """

    kind: Literal["judge"] = "judge"
    model: JudgeModelKind
    instructions: InstructionsInput
    verdict: VerdictKind = field(default_factory=WrittenVerdict)
    reasons_first: bool = True
    calibration: Input | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.reasons_first and isinstance(self.verdict, OptionProbabilities):
            raise ConfigError(
                "judge: a reward asks for a mark in one request, so the probabilities of marks need reasons_first: false; "
                "written marks and samples can follow reasons"
            )
        self.check_shaping()

    @property
    def is_calibrated(self) -> bool:
        """Whether a report card says what its marks are worth."""
        return self.calibration is not None

    def open(self, context: ScoringContext) -> PartScorer:
        """Return a scorer with the model, whose ledger lies in the run's directory; nothing is asked yet.

        Raises:
            ConfigError: the instructions do not exist or are for pairs, the model cannot answer them, or the card is another judge's.
        """
        at, instructions = f"rewards.{context.name}", load_instructions(self.instructions)
        if instructions.scale != "pointwise":
            raise ConfigError(f"{at}: instructions {instructions.id} compare completions; a reward marks one, with scale: pointwise")
        if instructions.takes_principle:
            raise ConfigError(f"{at}: instructions {instructions.id} ask about a principle; a reward has none, so write it into them")
        self.model.check(self.verdict.options(instructions), self.verdict.draws)
        if context.run is None:
            raise ConfigError(f"{at}: a judge keeps its answers in the directory of a run, and there is none")
        model = self.model.open(context.run)
        try:
            return _JudgeScorer(self, instructions, model, self._calibration(context.run, at, model.name, instructions))
        except PalateError:
            model.close()
            raise

    def _calibration(self, run: Run, at: str, model: str, instructions: Instructions) -> MarkCalibration | None:
        """Return what the card says about marks of this judge; without a card say that there is none."""
        judge = Judge(model, instructions, None, instructions.version(self.verdict.kind, reasons_first=self.reasons_first)).name
        if self.calibration is None:
            note_uncalibrated(run, at, judge)
            return None
        try:
            return read_card(Path(self.calibration)).mark_calibration_of(judge, instructions.dimension)
        except ConfigError as error:
            raise ConfigError(f"{at}.calibration: {error}") from error

    def question(self, instructions: Instructions, prompt: Prompt, completion: Completion) -> Conversation:
        """Return what the judge reads."""
        return instructions.question(prompt, (completion,), "", reasons_first=self.reasons_first)


@dataclass(frozen=True)
class _JudgeScorer:
    config: JudgeReward
    instructions: Instructions
    model: JudgeModel
    calibration: MarkCalibration | None

    def score(self, batch: ScoringBatch) -> PartScores:
        """Ask for a mark of each completion."""
        verdict, options = self.config.verdict, self.config.verdict.options(self.instructions)
        asked = [self.config.question(self.instructions, prompt, completion) for prompt, completion in batch.each]
        questions = [JudgeQuestion(conversation, options, draw) for conversation in asked for draw in range(verdict.draws)]
        replies = list(self.model.replies(questions))
        low, high = self.instructions.marks[0], self.instructions.marks[-1]
        scores: list[Score] = []
        for k in range(len(asked)):
            reading = verdict.read(self.instructions, replies[k * verdict.draws : (k + 1) * verdict.draws])
            if isinstance(reading, Abstention):
                scores.append(f"{self.model.name}: {reading.reason}")
            elif self.calibration is not None:
                scores.append(self.calibration.score(reading.mean))
            else:
                scores.append((reading.mean - low) / (high - low))
        return PartScores.of(scores)

    def close(self) -> None:
        """Close the model."""
        self.model.close()

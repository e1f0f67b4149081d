"""A part of a reward from rubrics: a model grades each prompt's own criteria, and signed weights make the grades a score."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from palate.config.answers import Score
from palate.config.types import Input
from palate.core import ConfigError, Prompt
from palate.data.cells import InvalidRow
from palate.data.rubric_files import RubricFile, RubricSource
from palate.data.rubrics import Rubric
from palate.judges.judge_card import OVERALL, Calibration, read_card
from palate.judges.judge_kinds import JudgeModelKind
from palate.judges.judge_model import JudgeModel
from palate.judges.judge_summary import note_uncalibrated
from palate.judges.rubric_grading import OPTIONS, Asking, Grades, GradingItem, calibrated, grade_all, grader_name
from palate.rewards.batch import PartScorer, PartScores, ScoringBatch, ScoringContext
from palate.rewards.part import PartSettings

MISSING = "missing_grades"
"""Name of the detail that holds the share of a rubric's criteria without a grade."""


@dataclass(frozen=True, kw_only=True)
class RubricReward(PartSettings):
    """The share of a rubric's points that a completion gets: `sum of weight x grade / sum of positive weights`, clipped to [0, 1].

    A criterion without a grade leaves the completion without a score. Criteria come from the prompt's own entry in the file, else from its
    column, else from the file's default. Dimensions, and the criteria of that default, have metrics of their own.

    Attributes:
        model: the model that grades: behind an OpenAI-compatible API, or a Python function.
        ask: criteria one by one with a written verdict (one_by_one), one by one by the probabilities of yes and no (options), or all of a
            rubric in one question (together).
        column: the column of the prompts with the rubric.
        file: a YAML or JSON file with rubrics by the prompt's id, a default, or both.
        calibration: the report card of this judge, as `palate judge-fit` writes it. A grade then is the share of people who say that the
            criterion is met. Without it all figures are named `uncalibrated`.
    """

    kind: Literal["rubric"] = "rubric"
    model: JudgeModelKind
    ask: Asking = "one_by_one"
    column: str = "rubric"
    file: Input | None = None
    calibration: Input | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        self.model.check(OPTIONS if self.ask == "options" else (), 1)
        self.check_shaping()

    @property
    def source(self) -> RubricSource:
        """Where rubrics come from. Raises DataError where the file cannot be used."""
        return RubricSource(self.column, None if self.file is None else RubricFile.read(Path(self.file)))

    @property
    def is_calibrated(self) -> bool:
        """Whether a report card says what its grades are worth."""
        return self.calibration is not None

    def grade_calibration(self, judge: str, place: str) -> Calibration | None:
        """Return what the card says about grades of this judge; None without a card.

        Raises:
            ConfigError: the card is another judge's, or its judge is not calibrated; `place` is the part of the reward.
        """
        if self.calibration is None:
            return None
        try:
            return read_card(Path(self.calibration)).calibration_of(judge, OVERALL)
        except ConfigError as error:
            raise ConfigError(f"{place}.calibration: {error}") from error

    def check_prompts(self, prompts: Sequence[Prompt], name: str) -> None:
        """Check that every prompt has a rubric. Raises DataError, which says how many have none, and where."""
        self.source.require(prompts, name)

    def open(self, context: ScoringContext) -> PartScorer:
        """Open the model and read the file.

        Raises:
            ConfigError: the model cannot be opened, nothing keeps its answers, or the card is another judge's.
            DataError: the file cannot be used.
        """
        if context.run is None:
            raise ConfigError(f"rewards.{context.name}: a model's answers are kept in a run's directory, and there is no run")
        at, judge = f"rewards.{context.name}", grader_name(self.model.model_name, self.ask)
        calibration = self.grade_calibration(judge, at)
        source, model = self.source, self.model.open(context.run)
        if calibration is None:
            note_uncalibrated(context.run, at, judge)
        return _RubricScorer(self, source, model, calibration)


@dataclass(frozen=True)
class _RubricScorer:
    config: RubricReward
    source: RubricSource
    model: JudgeModel
    calibration: Calibration | None

    def score(self, batch: ScoringBatch) -> PartScores:
        """Grade all completions; one that was not graded on every criterion gets a reason."""
        rubrics = [self._rubric(prompt) for prompt, _ in batch.each]
        items = [
            GradingItem(prompt, completion, rubric)
            for (prompt, completion), rubric in zip(batch.each, rubrics, strict=True)
            if isinstance(rubric, Rubric)
        ]
        graded = (calibrated(own, self.calibration) for own in grade_all(self.model, items, self.config.ask))
        grades = [next(graded) if isinstance(rubric, Rubric) else {} for rubric in rubrics]
        scores = [rubric.score(own) if isinstance(rubric, Rubric) else rubric for rubric, own in zip(rubrics, grades, strict=True)]
        details = [self._details(rubric, own) for rubric, own in zip(rubrics, grades, strict=True)]
        names = dict.fromkeys(name for row in details for name in row)
        columns = {name: torch.tensor([row.get(name, math.nan) for row in details]) for name in names}
        outcome = PartScores.of(scores)
        return PartScores(outcome.heads, outcome.reasons, columns)

    def close(self) -> None:
        """Close the model's ledger."""
        self.model.close()

    def _rubric(self, prompt: Prompt) -> Rubric | str:
        """Return the prompt's rubric, or why there is none; prompts were checked before, so this is for those that came later."""
        try:
            return self.source.rubric(prompt) or "its prompt has no rubric"
        except InvalidRow as error:
            return f"its prompt's rubric cannot be used: {error.reason}"

    def _details(self, rubric: Rubric | str, grades: Grades) -> dict[str, float]:
        """Return what is recorded of a completion beside its score; NaN where a grade is missing."""
        if isinstance(rubric, str):
            return {}
        parts: dict[str, Score] = {name: part.score(grades) for name, part in rubric.dimensions.items()}
        # Criteria of other rubrics are asked about one prompt alone, so that no mean over prompts could be made of them.
        if self.source.file is not None and rubric is self.source.file.default:
            parts |= grades
        missing = sum(isinstance(grade, str) for grade in grades.values()) / len(rubric.criteria)
        return {**{metric_word(name): _number(value) for name, value in parts.items()}, MISSING: missing}


def metric_word(name: str) -> str:
    """Return a name as it may stand in that of a metric."""
    return re.sub(r"[^\w.-]+", "_", name)


def _number(value: Score) -> float:
    return math.nan if isinstance(value, str) else value

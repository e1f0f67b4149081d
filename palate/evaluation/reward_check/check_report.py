"""The whole check of a reward model on judged pairs, as plain records: what `palate reward-check` prints and writes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import numpy as np

from palate.agreement.estimates import Estimate, clustered_share
from palate.config.settings import nearest
from palate.core import Completion, DataError, Preference
from palate.data.formats import CompletionGroup
from palate.evaluation.calibration import Bin, calibration_bins, expected_calibration_error, pair_log_loss
from palate.evaluation.reward_check.accuracy import (
    AccuracyFigures,
    GroupAccuracy,
    by_cluster,
    by_dimension,
    by_gap,
    by_rater,
    by_source,
    figures_of,
)
from palate.evaluation.reward_check.attacks import AttackResult, attack_results
from palate.evaluation.reward_check.benchmark_figures import BenchmarkFigures
from palate.evaluation.reward_check.doubts import (
    EnsembleDisagreement,
    Familiarity,
    Novelty,
    ensemble_disagreement,
    familiarity,
    novelty,
)
from palate.evaluation.reward_check.faults import Evidence, RewardFault, Verdict, find_faults, verdict_of, verdict_sentence
from palate.evaluation.reward_check.length_effect import LengthEffect, length_effect
from palate.evaluation.reward_check.reading_habits import ReadingHabits, largest_change, reading_habits
from palate.evaluation.reward_check.score_book import ScoreBook, ScoredPairs, scored_pairs, whole_pairs
from palate.rewards.combination import RewardModels
from palate.rewards.learned import ReportCard

CHANGE = {"float32": 1e-4, "bfloat16": 0.2, "float16": 0.05}
"""How far a score may move with what is scored beside it, by the type that the model computes in."""


@dataclass(frozen=True)
class CheckSettings:
    """How to check.

    Attributes:
        dimensions: only pairs on these; () takes all.
        combined: judge every pair by the sum of the dimensions.
        column: the column that says where a pair comes from; None takes a usual one.
        phrases: reassuring texts.
        attack_limit: share of pairs that the better side must still win.
        dtype: the type that the model computes in.
    """

    dimensions: tuple[str, ...] = ()
    combined: bool = False
    column: str | None = None
    phrases: tuple[str, ...] = ()
    attack_limit: float = 0.5
    dtype: str = "float32"


@dataclass(frozen=True)
class RewardCheck:
    """What was measured. Groups are accuracies on parts of the pairs."""

    models: tuple[str, ...]
    verdict: Verdict
    sentence: str
    faults: tuple[RewardFault, ...]
    pairs: int
    prompts: int
    left_out: dict[str, int]
    notes: tuple[str, ...]
    figures: AccuracyFigures
    dimensions: tuple[GroupAccuracy, ...]
    raters: tuple[GroupAccuracy, ...]
    sources: tuple[GroupAccuracy, ...]
    gaps: tuple[GroupAccuracy, ...]
    clusters: tuple[GroupAccuracy, ...]
    log_loss: float
    calibration_error: float
    calibration: tuple[Bin, ...]
    length: LengthEffect | None
    attacks: tuple[AttackResult, ...]
    attack_limit: float
    habits: ReadingHabits
    change: float
    spread: float
    disagreement: EnsembleDisagreement | None
    familiarity: Familiarity | None
    novelty: Novelty | None
    length_before: LengthEffect | None
    benchmark: BenchmarkFigures | None = field(default=None)

    def plain(self) -> dict[str, Any]:
        """Return the check as JSON values. Undefined numbers become None."""
        return cast("dict[str, Any]", _plain(asdict(self)))

    def report_card(self) -> ReportCard:
        """Return what `online` requires of a reward model, as measured here."""
        figures = self.figures
        return ReportCard(figures.accuracy.value, self.pairs, self.spread, figures.floor.value, figures.over_length.low)


@dataclass(frozen=True)
class ComparedWith:
    """What the completions of the pairs are compared with.

    Attributes:
        references: completions that the model knows; without them nothing is said about unfamiliar texts.
        new: completions on which an ensemble may disagree more than on those of the pairs.
        before: another reward model, for the effect of length on its scores.
    """

    references: Sequence[Completion] = ()
    new: Sequence[CompletionGroup] = ()
    before: RewardModels | None = None


def check_reward(
    models: RewardModels, preferences: Sequence[Preference], settings: CheckSettings, compared: ComparedWith = ComparedWith()
) -> RewardCheck:
    """Measure a reward model, or an ensemble, on judged pairs.

    Args:
        models: what scores.
        preferences: the pairs.
        settings: how to check.
        compared: what the pairs' completions are compared with.

    Raises:
        ConfigError: a pair's dimension is not one of a model's.
        DataError: no pair is about a dimension that is asked for, has the column that is named, or can be scored.
    """
    known = dict.fromkeys(one.dimension for one in preferences)
    for name in settings.dimensions:
        if name not in known:
            raise DataError(f"--dimensions: no pair is about {name!r}. {nearest(name, known)}")
    asked = [one for one in preferences if not settings.dimensions or one.dimension in settings.dimensions]
    book = ScoreBook(models)
    pairs, left_out = scored_pairs(book, asked, combined=settings.combined)
    figures, dimensions = figures_of(pairs), by_dimension(pairs)
    attacks = attack_results(book, whole_pairs(pairs.preferences), settings.phrases)
    length, habits, change = length_effect(pairs), reading_habits(book, pairs, combined=settings.combined), largest_change(book, pairs)
    evidence = Evidence(
        figures, dimensions, _elsewhere(pairs, dimensions), length, attacks, settings.attack_limit, habits, change, CHANGE[settings.dtype]
    )
    faults = find_faults(evidence)
    verdict = verdict_of(figures, faults)
    bins = _bins(pairs)
    return RewardCheck(
        models=tuple(models.members),
        verdict=verdict,
        sentence=verdict_sentence(verdict, figures, faults),
        faults=faults,
        pairs=len(pairs),
        prompts=int(pairs.prompt.max()) + 1,
        left_out=dict(left_out),
        notes=(),
        figures=figures,
        dimensions=dimensions,
        raters=by_rater(pairs),
        sources=by_source(pairs, settings.column),
        gaps=by_gap(pairs),
        clusters=by_cluster(pairs),
        log_loss=pair_log_loss(pairs.logits.mean(0), np.zeros(len(pairs)), pairs.observed).value,
        calibration_error=expected_calibration_error(bins),
        calibration=bins,
        length=length,
        attacks=attacks,
        attack_limit=settings.attack_limit,
        habits=habits,
        change=change,
        spread=_spread(book, pairs),
        disagreement=ensemble_disagreement(pairs),
        familiarity=familiarity(models.first.model.tokenizer, pairs, compared.references),
        novelty=novelty(book, pairs, compared.new),
        length_before=_length_before(compared.before, pairs, combined=settings.combined),
    )


def _length_before(before: RewardModels | None, pairs: ScoredPairs, *, combined: bool) -> LengthEffect | None:
    """Return the effect of length on another model's scores of the same pairs."""
    return None if before is None else length_effect(scored_pairs(ScoreBook(before), pairs.preferences, combined=combined)[0])


def _elsewhere(pairs: ScoredPairs, dimensions: Sequence[GroupAccuracy]) -> list[Estimate]:
    """Return the accuracy on the pairs of all other dimensions, for each; unknown where there is one dimension."""
    if len(dimensions) < 2:
        return [Estimate(math.nan, math.nan, math.nan, math.nan, 0) for _ in dimensions]
    names = np.array([one.dimension for one in pairs.preferences])
    rest = (pairs.where(names != group.name) for group in dimensions)
    return [clustered_share(part.right, part.prompt) for part in rest]


def _bins(pairs: ScoredPairs) -> tuple[Bin, ...]:
    columns = zip(pairs.logits.mean(0), pairs.observed, pairs.tokens, strict=True)
    return calibration_bins(
        [{"chosen": logit, "rejected": 0.0, "observed": share, "chosen_tokens": tokens[0], "rejected_tokens": tokens[1]}
         for logit, share, tokens in columns]
    )  # fmt: skip


def _spread(book: ScoreBook, pairs: ScoredPairs) -> float:
    """Return the standard deviation of raw scores over the pairs' completions, the mean over models, in logits."""
    sides = dict.fromkeys((one.prompt.conversation, side) for one in pairs.preferences for side in (one.chosen, one.rejected))
    prompts = {one.prompt.conversation: one.prompt for one in pairs.preferences}
    raw = np.stack([book.of(prompts[conversation], side).raw.sum(1) for conversation, side in sides])
    return float(raw.std(0).mean())


def _plain(value: Any) -> Any:
    """Return the value with lists for tuples, and None for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

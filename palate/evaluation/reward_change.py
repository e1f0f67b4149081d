"""What new judgments changed in a reward model: both models measured on judgments and on samples, and the record for the page."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from palate.agreement import LearningCurve
from palate.agreement.estimates import known
from palate.core import Completion, Preference, Prompt
from palate.data.files import write_atomic
from palate.data.formats.write import answer, messages
from palate.data.jsonl import Row
from palate.evaluation.calibration import calibration_bins, vote_agreement
from palate.evaluation.intervals import Estimate, paired_difference, proportion
from palate.evaluation.report.change import ChangedBest, HeldOutChange, RescoredCompletion, RewardChange, lines
from palate.evaluation.reward_model import assess, predictions
from palate.models.scalar import ScalarModel
from palate.rewards.learned import LearnedReward
from palate.runs.record import read_record
from palate.runs.run import Run
from palate.text.pack import Tree
from palate.training.comparisons import judged_prompts
from palate.training.model_io import token_limit

Rows = list[dict[str, float | str]]
Floats = npt.NDArray[np.float64]
FIGURES = ("accuracy", "se", "n", "log_loss", "calibration_error", "longer_wins", "over_length", "over_length_low")
PAGE = "refresh.html"
EXAMPLES = 6
"""Prompts on the page that have another best completion now."""
MOST_RESCORED = 1000
"""Judged prompts at most whose pairs `rescored.jsonl` lists."""
BINS = 5
"""Groups of stated probabilities: a refresh has few judgments."""


@dataclass(frozen=True)
class ComparedPredictions:
    """Predictions of both models for the same judgments, row by row."""

    before: Rows
    after: Rows

    @staticmethod
    def of(before: ScalarModel, after: ScalarModel, preferences: Sequence[Preference]) -> ComparedPredictions:
        """Predict preferences about the models' heads with both models."""
        prompts, _ = judged_prompts(preferences, after.tokenizer, token_limit(after))
        return ComparedPredictions(*(predictions(model, prompts, model.heads) for model in (before, after)))

    @property
    def size(self) -> int:
        """Number of judgments."""
        return len(self.after)

    @property
    def right(self) -> tuple[Floats, Floats]:
        """(n,) share of the votes on each judgment that the model before, and the model after, agrees with."""
        before, after = (_right(rows) for rows in (self.before, self.after))
        return before, after

    @property
    def change(self) -> Estimate:
        """The gain in accuracy, paired by judgment."""
        before, after = self.right
        return paired_difference(after, before)

    def summary(self) -> dict[str, Mapping[str, Any]]:
        """Return accuracy, log loss and calibration of each model, and the paired difference in accuracy."""
        overall = {name: assess(rows)["overall"] for name, rows in (("before", self.before), ("after", self.after))}
        change = self.change
        return {
            **{name: {key: figures[key] for key in FIGURES} for name, figures in overall.items()},
            "change": {"accuracy": change.value, "se": known(change.se)},
        }


def rescored_pairs(before: ScalarModel, after: ScalarModel, preferences: Sequence[Preference]) -> list[Row]:
    """Return a row per preference: prompt, texts, and the probability that the model before, and the one after, gives to `chosen`.

    It takes the preferences of the first `MOST_RESCORED` prompts. Those that do not fit into the model are left out.
    """
    prompts = list(dict.fromkeys(preference.prompt.conversation for preference in preferences))[:MOST_RESCORED]
    taken = set(prompts)
    judged, _ = judged_prompts([one for one in preferences if one.prompt.conversation in taken], after.tokenizer, token_limit(after))
    kept = [preference for prompt in judged for preference in prompt.preferences]
    scored = zip(kept, *(predictions(model, judged, model.heads) for model in (before, after)), strict=True)
    return [
        {
            "prompt": messages(preference.prompt),
            "dimension": preference.dimension,
            "chosen": answer(preference.prompt, preference.chosen),
            "rejected": answer(preference.prompt, preference.rejected),
            "before": _probability(first),
            "after": _probability(second),
        }
        for preference, first, second in scored
    ]


def _probability(row: Mapping[str, float | str]) -> float:
    """Return the probability that Bradley-Terry gives to what was chosen."""
    return float(0.5 + 0.5 * np.tanh((float(row["chosen"]) - float(row["rejected"])) / 2))


@dataclass(frozen=True)
class ComparedScores:
    """Raw scores of both models for the completions of each prompt."""

    before: tuple[Floats, ...]
    after: tuple[Floats, ...]

    @staticmethod
    def of(before: Tensor, after: Tensor, trees: Sequence[Tree]) -> ComparedScores:
        """Sum the raw scores (b, h) of all branches over heads, and split them by tree."""
        ends = np.cumsum([len(tree.branches) for tree in trees])[:-1]
        first, second = (raw.sum(1).double().numpy() for raw in (before, after))
        return ComparedScores(tuple(np.split(first, ends)), tuple(np.split(second, ends)))

    @property
    def moved(self) -> list[int]:
        """Numbers of the prompts whose best completion is another one now."""
        both = enumerate(zip(self.before, self.after, strict=True))
        return [k for k, (before, after) in both if len(before) > 1 and before.argmax() != after.argmax()]

    def summary(self) -> dict[str, float]:
        """Return the spread of raw scores, their correlation, and the share of prompts whose best completion is another one."""
        before, after = np.concatenate(self.before), np.concatenate(self.after)
        several = sum(len(scores) > 1 for scores in self.before)
        return {
            "spread_before": float(before.std()),
            "spread_after": float(after.std()),
            "correlation": float(np.corrcoef(before, after)[0, 1]) if before.std() and after.std() else float("nan"),
            "best_changed": len(self.moved) / several if several else float("nan"),
        }


def raw_scores(model: ScalarModel, trees: Sequence[Tree]) -> Tensor:
    """Return scores (b, h) without gain and bias."""
    scores = LearnedReward(model).score_trees(trees)
    return (scores - scores.new_tensor(model.normalisation.bias)) / scores.new_tensor(model.normalisation.gain)


@dataclass(frozen=True)
class RefreshResults:
    """What a refresh measured."""

    reward: str
    samples: Sequence[tuple[Prompt, tuple[Completion, ...]]]
    compared: Mapping[str, ComparedPredictions]
    scores: ComparedScores
    curve: LearningCurve | None
    queued: int


def reward_change(run: Run, results: RefreshResults) -> RewardChange:
    """Return the record for the page."""
    scale, moved = results.scores.summary(), results.scores.moved
    record = read_record(run.directory)
    facts = () if record is None else (("run", record.name), ("seed", str(run.seed)), ("versions", _listed(record.versions)))
    return RewardChange(
        subtitle=f"Training went on from {_near(results.reward)}. This test holds out {results.compared['new'].size} of the new judgments.",
        tests=tuple(_test(name, compared) for name, compared in results.compared.items()),
        spread=(scale["spread_before"], scale["spread_after"]),
        correlation=scale["correlation"],
        prompts=sum(len(scores) > 1 for scores in results.scores.before),
        best_changed=len(moved),
        moved=tuple(_changed_best(results, k) for k in moved[:EXAMPLES]),
        curve=results.curve,
        queued=results.queued,
        commands=commands(results.reward, run.directory),
        facts=facts,
    )


def commands(reward: str, directory: Path) -> tuple[tuple[str, str], ...]:
    """Return the commands that put the new model in use under a fixed name and that go back, each with a label."""
    path = Path(reward)
    link = path if path.is_symlink() else directory.parent / "reward"
    named = _near(str(link))
    first = () if link.is_symlink() else (("once, a name for the model in use", f"palate use {named} {_near(reward)}"),)
    return (*first, ("put it in use", f"palate use {named} {_near(str(directory))}"), ("and back", f"palate use {named} --back"))


def terminal_lines(change: RewardChange, directory: Path) -> tuple[str, ...]:
    """Return what a terminal shows: the advice, the forecast, the path of the page, and the commands."""
    typed = (f"{label}: {command}" for label, command in change.commands)
    return (*lines(change), f"page: {_near(str(directory / PAGE))}", *typed)


def write_change(change: RewardChange, path: Path) -> None:
    """Write the page to `path`. Only this imports matplotlib."""
    from palate.evaluation.report.change_page import render_change

    write_atomic(path, render_change(change))


def _right(rows: Rows) -> Floats:
    """(n,) share of the votes on each row that its scores agree with."""
    chosen, rejected, observed = (np.array([float(row[name]) for row in rows]) for name in ("chosen", "rejected", "observed"))
    return vote_agreement(chosen - rejected, observed)


def _test(name: str, compared: ComparedPredictions) -> HeldOutChange:
    figures = compared.summary()
    before, after = compared.right
    return HeldOutChange(
        name,
        proportion(before),
        proportion(after),
        compared.change,
        (figures["before"]["log_loss"], figures["after"]["log_loss"]),
        (figures["before"]["calibration_error"], figures["after"]["calibration_error"]),
        (calibration_bins(compared.before, BINS), calibration_bins(compared.after, BINS)),
    )


def _changed_best(results: RefreshResults, k: int) -> ChangedBest:
    prompt, completions = results.samples[k]
    before, after = results.scores.before[k], results.scores.after[k]
    sides = (
        RescoredCompletion(completions[i].text, (float(before[i] - before.mean()), float(after[i] - after.mean())))
        for i in (int(before.argmax()), int(after.argmax()))
    )
    return ChangedBest(prompt.text, *sides)


def _near(path: str) -> str:
    """Return the path as one would type it in the working directory."""
    relative = os.path.relpath(path)
    return shlex.quote(str(path) if relative.startswith("..") else relative)


def _listed(versions: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version)

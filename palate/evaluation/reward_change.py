"""A reward model before and after: on judgments, and in how it ranks samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from palate.core import Preference
from palate.evaluation.intervals import Estimate, paired_difference
from palate.evaluation.reward_model import assess, predictions
from palate.models.scalar import ScalarModel
from palate.rewards.learned import LearnedReward
from palate.text.pack import Tree
from palate.text.spans import NO_LIMIT
from palate.training.comparisons import judged_prompts

Rows = list[dict[str, float | str]]
Floats = npt.NDArray[np.float64]
FIGURES = ("accuracy", "se", "n", "log_loss", "calibration_error", "longer_wins")


@dataclass(frozen=True)
class Compared:
    """Predictions of both models for the same judgments, row by row."""

    before: Rows
    after: Rows

    @staticmethod
    def of(before: ScalarModel, after: ScalarModel, preferences: Sequence[Preference]) -> Compared:
        """Of preferences about the models' heads."""
        judged, _ = judged_prompts(preferences, after.tokenizer, after.max_tokens or NO_LIMIT)
        return Compared(*(predictions(model, judged, model.heads) for model in (before, after)))

    @property
    def size(self) -> int:
        """Judgments compared on."""
        return len(self.after)

    @property
    def right(self) -> tuple[Floats, Floats]:
        """(n,) share of votes that each model agrees with, by judgment."""
        then, now = (np.array([agreement(row) for row in rows]) for rows in (self.before, self.after))
        return then, now

    @property
    def change(self) -> Estimate:
        """What accuracy gained, paired by judgment."""
        then, now = self.right
        return paired_difference(now, then)

    def told(self) -> dict[str, Mapping[str, Any]]:
        """Accuracy, log loss and calibration of each, and the paired difference in accuracy, for the summary."""
        found = {name: assess(rows)["overall"] for name, rows in (("before", self.before), ("after", self.after))}
        change = self.change
        return {
            **{name: {key: one[key] for key in FIGURES} for name, one in found.items()},
            "change": {"accuracy": change.value, "se": change.se},
        }


def agreement(row: Mapping[str, float | str]) -> float:
    """The share of votes that a model's scores of a pair agree with; one half where they are equal."""
    difference, observed = float(row["chosen"]) - float(row["rejected"]), float(row["observed"])
    right = (1 + np.sign(difference)) / 2
    return float(right * observed + (1 - right) * (1 - observed))


@dataclass(frozen=True)
class Ranked:
    """Raw scores of both models for the completions of each prompt."""

    before: tuple[Floats, ...]
    after: tuple[Floats, ...]

    @staticmethod
    def of(before: Tensor, after: Tensor, trees: Sequence[Tree]) -> Ranked:
        """From the raw scores (b, h) of all branches: the sum of the heads."""
        ends = np.cumsum([len(tree.branches) for tree in trees])[:-1]
        then, now = (raw.sum(1).double().numpy() for raw in (before, after))
        return Ranked(tuple(np.split(then, ends)), tuple(np.split(now, ends)))

    @property
    def moved(self) -> list[int]:
        """Numbers of the prompts of which another completion is now the best."""
        both = enumerate(zip(self.before, self.after, strict=True))
        return [k for k, (then, now) in both if len(then) > 1 and then.argmax() != now.argmax()]

    def told(self) -> dict[str, float]:
        """Spread of raw scores, their correlation, and the share of prompts whose best completion is another."""
        then, now = np.concatenate(self.before), np.concatenate(self.after)
        several = sum(len(scores) > 1 for scores in self.before)
        return {
            "spread_before": float(then.std()),
            "spread_after": float(now.std()),
            "correlation": float(np.corrcoef(then, now)[0, 1]) if then.std() and now.std() else float("nan"),
            "best_changed": len(self.moved) / several if several else float("nan"),
        }


def raw_scores(model: ScalarModel, trees: Sequence[Tree]) -> Tensor:
    """Scores (b, h) before gain and bias."""
    scores = LearnedReward(model).score_trees(trees)
    return (scores - scores.new_tensor(model.normalisation.bias)) / scores.new_tensor(model.normalisation.gain)

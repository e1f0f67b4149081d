"""Figures of an ensemble from the runs of its members: each alone, and the mean of their raw scores on the held-out judgments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from palate.data.files import read_json
from palate.data.jsonl import read_rows, write_rows
from palate.evaluation.reward_model import Prediction, assess, assess_sources, predictions
from palate.models.reward_file import Normalisation
from palate.models.scalar import ScalarModel
from palate.training.reward_task import RewardTask


def ensemble_summary(directory: Path, members: Sequence[Path]) -> dict[str, object]:
    """Write the members' mean predictions to `predictions.jsonl` in `directory`, and return the ensemble's figures.

    Members are tested on the same judgments in the same order.
    """
    tables = [[cast("Prediction", row) for _, row in read_rows(member / "predictions.jsonl")] for member in members]
    rows = [_mean(same) for same in zip(*tables, strict=True)]
    write_rows(directory / "predictions.jsonl", rows)
    summaries = [cast("dict[str, Any]", read_json(member / "summary.json")) for member in members]
    return {
        "prompts": summaries[0]["prompts"],
        "preferences": summaries[0]["preferences"],
        "members": [{"accuracy": one["held_out"]["overall"]["accuracy"], "spread": one["spread"]} for one in summaries],
        "held_out": assess(rows),
        **assess_sources(rows),
    }


def _mean(same: Sequence[Prediction]) -> Prediction:
    """Return a prediction with the mean raw score of each side."""
    means = {side: sum(float(row[side]) for row in same) / len(same) for side in ("chosen", "rejected")}
    return {**same[0], **means}


def joined_predictions(model: ScalarModel, task: RewardTask) -> list[Prediction]:
    """Return the predictions of a model that still has its length heads, by the mean of both, which orders pairs as their sum does."""
    heads = len(model.heads)
    model.normalisation = Normalisation((1.0,) * heads, (0.0,) * heads, heads // len(task.dimensions))
    return predictions(model, task.test, task.dimensions)

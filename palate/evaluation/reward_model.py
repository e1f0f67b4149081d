"""A reward model measured: its scale on reference samples, its accuracy and calibration on held-out judgments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from palate.evaluation.calibration import Bin, expected_calibration_error, pair_log_loss, reliability, win_probability
from palate.evaluation.intervals import Estimate, proportion
from palate.models.scalar import Normalisation, ScalarModel
from palate.rewards.learned import LearnedReward
from palate.training.comparisons import JudgedPrompt

Floats = npt.NDArray[np.float64]
REFERENCE_PROMPTS = 1000
"""Prompts whose completions set the scale of a reward model's scores."""


def normalisation_of(raw: Tensor) -> tuple[Normalisation, float]:
    """Gain and bias of each head for raw scores (n, h), so that their sum has mean 0 and deviation 1; and its raw deviation.

    The deviation is the biased one (Ziegler et al. 2019 sec. 2.2); scores that are all alike keep their scale.
    """
    spread = float(raw.sum(1).std(unbiased=False))
    gain = 1 / spread if spread > 0 else 1.0
    return Normalisation((gain,) * raw.shape[1], tuple((-gain * raw.mean(0)).tolist())), spread


def predictions(model: ScalarModel, judged: Sequence[JudgedPrompt], dimensions: tuple[str, ...]) -> list[dict[str, float | str]]:
    """A row for each held-out preference: the model's raw scores, the share of votes, the lengths in tokens."""
    raw = LearnedReward(model).score_trees([one.tree for one in judged])
    norm = model.normalisation
    rows: list[dict[str, float | str]] = []
    start = 0
    for one in judged:
        for pair, preference in zip(one.pairs, one.preferences, strict=True):
            head = dimensions.index(pair.dimension) if pair.dimension in dimensions else None
            if head is None:
                continue
            scores = [(float(raw[start + side, head]) - norm.bias[head]) / norm.gain[head] for side in (pair.chosen, pair.rejected)]
            votes = preference.prompt.fields.get("votes")
            observed = sum(votes) / len(votes) if isinstance(votes, list) and votes else pair.probability
            lengths = [len(one.tree.branches[side].ids) for side in (pair.chosen, pair.rejected)]
            rows.append(
                {"dimension": pair.dimension, "chosen": scores[0], "rejected": scores[1], "observed": float(observed),
                 "chosen_tokens": lengths[0], "rejected_tokens": lengths[1]}
            )  # fmt: skip
        start += len(one.tree.branches)
    return rows


def assess(rows: Sequence[dict[str, float | str]]) -> dict[str, dict[str, float]]:
    """Accuracy against single votes, its floors and calibration, for each dimension and over all (`overall`)."""
    names = list(dict.fromkeys(str(row["dimension"]) for row in rows))
    parts = {name: [row for row in rows if row["dimension"] == name] for name in names}
    measured = {name: _assess(part) for name, part in parts.items() if name != "overall"}
    return {**measured, "overall": _assess(rows)}


def calibration_bins(rows: Sequence[dict[str, float | str]], bins: int = 10) -> tuple[Bin, ...]:
    """What the model states of pairs against the votes.

    "Chosen" won by construction, so pairs are seen from their longer side (or as they stand, where they are equal).
    """
    names = ("chosen", "rejected", "observed", "chosen_tokens", "rejected_tokens")
    chosen, rejected, observed, *lengths = (np.array([float(row[name]) for row in rows]) for name in names)
    turn = np.where(lengths[0] < lengths[1], -1.0, 1.0)
    shown, came = win_probability(turn * (chosen - rejected), np.zeros(len(rows))), np.where(turn < 0, 1 - observed, observed)
    return reliability(shown, came, bins=bins)


def _assess(rows: Sequence[dict[str, float | str]]) -> dict[str, float]:
    columns = {name: np.array([float(row[name]) for row in rows]) for name in rows[0] if name != "dimension"}
    observed = columns["observed"]

    def agreement(difference: Floats) -> Estimate:
        """How often the sign of a difference agrees with a vote; equal scores and tied votes count one half."""
        right = (1 + np.sign(difference)) / 2
        return proportion(right * observed + (1 - right) * (1 - observed))

    difference, longer = columns["chosen"] - columns["rejected"], columns["chosen_tokens"] - columns["rejected_tokens"]
    accuracy, longer_wins = agreement(difference), agreement(longer)
    return {
        "accuracy": accuracy.value,
        "se": accuracy.se,
        "n": accuracy.n,
        "log_loss": pair_log_loss(columns["chosen"], columns["rejected"], observed).value,
        "calibration_error": expected_calibration_error(calibration_bins(rows)),
        "longer_wins": longer_wins.value,
        "shorter_wins": 1 - longer_wins.value,
    }

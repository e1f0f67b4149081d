"""Measurements of a reward model: its scale on reference samples, its accuracy and calibration on held-out judgments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from palate.core import Completion, DataError, Prompt
from palate.data.data_sources import DataInput, data_name, taking_turns
from palate.evaluation.calibration import calibration_bins, expected_calibration_error, pair_brier, pair_log_loss, vote_agreement
from palate.evaluation.intervals import proportion
from palate.evaluation.length_floor import gain_over_length
from palate.models.reward_file import Normalisation
from palate.models.scalar import ScalarModel
from palate.rewards.learned import LearnedReward, ReportCard
from palate.runs.run import Run
from palate.samplers.prompts import samples_at
from palate.text.pack import Tree
from palate.text.template import Unusable
from palate.training.comparisons import JudgedPrompt

Prediction = dict[str, float | str]
"""A held-out preference with raw scores; see `predictions`."""

REFERENCE_PROMPTS = 1000
"""The completions of at most this many prompts set the scale of a reward model's scores."""


def normalisation_of(raw: Tensor, members: int = 1) -> tuple[Normalisation, float]:
    """Return each head's gain and bias for raw scores (n, h), and the raw deviation of their sum.

    With them the sum of the heads has mean 0 and deviation 1. The deviation is the biased one (Ziegler et al. 2019 sec. 2.2). Scores that
    are all equal keep their scale. Of `members` members on one trunk each has a scale of its own (see `Normalisation`), and the deviation
    returned is their mean.
    """
    spreads = raw.unflatten(1, (members, -1)).sum(2).std(0, unbiased=False)
    gain = torch.where(spreads > 0, 1 / spreads, torch.ones_like(spreads)).repeat_interleave(raw.shape[1] // members) / members
    return Normalisation(tuple(gain.tolist()), tuple((-gain * raw.mean(0)).tolist()), members), float(spreads.mean())


def reference_samples(run: Run, data: DataInput, reward: LearnedReward) -> tuple[list[tuple[Prompt, tuple[Completion, ...]]], list[Tree]]:
    """Return the first samples of `data` that set the scale of the scores, and their trees; record those that do not fit in the run.

    Raises:
        DataError: none fits.
    """
    kept, trees, reasons = [], [], []
    samples = taking_turns(samples_at(run, data), lambda row: row[0].source_name)
    for prompt, completions in samples[:REFERENCE_PROMPTS]:
        try:
            trees.append(reward.tree(prompt, completions))
            kept.append((prompt, completions))
        except Unusable as error:
            reasons.append(error.kind)
    run.dropped(data_name(data), reasons)
    if not kept:
        counts = "; ".join(f"{count} x {reason}" for reason, count in Counter(reasons).most_common()) or "the file has no sample"
        raise DataError(f"{data_name(data)}: none of the samples can set the scale of the scores ({counts}). Sample shorter completions")
    return kept, trees


def predictions(model: ScalarModel, judged: Sequence[JudgedPrompt], dimensions: tuple[str, ...]) -> list[Prediction]:
    """Return a row per held-out preference: the prompt's number, raw scores, the share of votes, and lengths in tokens.

    The raw score of members on one trunk is their mean. Rows name their source where trees do.
    """
    norm = model.normalisation
    scaled = LearnedReward(model).score_trees([prompt.tree for prompt in judged]).double()
    each = (scaled - scaled.new_tensor(norm.bias)) / scaled.new_tensor(norm.gain)
    raw = each.unflatten(1, (norm.members, -1)).mean(1)
    rows: list[Prediction] = []
    start = 0
    for number, prompt in enumerate(judged):
        for pair, preference in zip(prompt.pairs, prompt.preferences, strict=True):
            head = dimensions.index(pair.dimension) if pair.dimension in dimensions else None
            if head is None:
                continue
            scores = [float(raw[start + side, head]) for side in (pair.chosen, pair.rejected)]
            votes = [vote for _, vote in preference.votes]
            observed = sum(votes) / len(votes) if votes else pair.probability
            lengths = [len(prompt.tree.branches[side].ids) for side in (pair.chosen, pair.rejected)]
            rows.append(
                {"dimension": pair.dimension, "prompt": number, "chosen": scores[0], "rejected": scores[1], "observed": float(observed),
                 "chosen_tokens": lengths[0], "rejected_tokens": lengths[1],
                 **({"source": prompt.tree.source_name} if prompt.tree.source_name else {})}
            )  # fmt: skip
        start += len(prompt.tree.branches)
    return rows


def assess(rows: Sequence[Prediction]) -> dict[str, dict[str, float]]:
    """Return accuracy against single votes, its floors and calibration, per dimension and over all rows (`overall`)."""
    names = list(dict.fromkeys(str(row["dimension"]) for row in rows))
    parts = {name: [row for row in rows if row["dimension"] == name] for name in names}
    by_dimension = {name: _assess(part) for name, part in parts.items() if name != "overall"}
    return {**by_dimension, "overall": _assess(rows)}


def assess_sources(rows: Sequence[Prediction]) -> dict[str, dict[str, dict[str, float]]]:
    """Return `{"held_out_sources": ...}` with the figures of `assess` over all rows of each source; {} where no row names its source."""
    names = list(dict.fromkeys(str(row["source"]) for row in rows if "source" in row))
    of_each = {name: _assess([row for row in rows if row.get("source") == name]) for name in names}
    return {"held_out_sources": of_each} if of_each else {}


def card_of(overall: Mapping[str, float], spread: float) -> ReportCard:
    """Return the report card of a reward model from what `assess` says of all rows, and the deviation of its raw scores in logits."""
    floor = max(overall["longer_wins"], 1 - overall["longer_wins"])
    return ReportCard(overall["accuracy"], int(overall["n"]), spread, floor, overall["over_length_low"])


def _assess(rows: Sequence[Prediction]) -> dict[str, float]:
    columns = {name: np.array([float(row[name]) for row in rows]) for name in rows[0] if name not in {"dimension", "source"}}
    observed = columns["observed"]
    right = vote_agreement(columns["chosen"] - columns["rejected"], observed)
    accuracy = proportion(right)
    longer_wins = proportion(vote_agreement(columns["chosen_tokens"] - columns["rejected_tokens"], observed))
    lengths = np.stack([columns["chosen_tokens"], columns["rejected_tokens"]], axis=1)
    over_length = gain_over_length(right, lengths, observed, columns["prompt"].astype(np.int64))
    return {
        "accuracy": accuracy.value,
        "se": accuracy.se,
        "n": accuracy.n,
        "log_loss": pair_log_loss(columns["chosen"], columns["rejected"], observed).value,
        "brier": pair_brier(columns["chosen"], columns["rejected"], observed).value,
        "brier_even": pair_brier(np.zeros_like(observed), np.zeros_like(observed), observed).value,
        "calibration_error": expected_calibration_error(calibration_bins(rows)),
        "longer_wins": longer_wins.value,
        "shorter_wins": 1 - longer_wins.value,
        "over_length": over_length.value,
        "over_length_low": over_length.low,
    }

"""Stage `reward`: a reward model from preferences."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from palate.config.read import Amount, Count, Input, ModelInput
from palate.core import ConfigError, DataError, Preference, derive_seed
from palate.data.formats import MEAN, read_preferences
from palate.data.jsonl import write_rows
from palate.data.samples import read_samples
from palate.evaluation.active_learning import ask_next
from palate.evaluation.calibration import Bin, expected_calibration_error, pair_log_loss, reliability, win_probability
from palate.evaluation.intervals import Estimate, proportion
from palate.models.adapters import LoRA
from palate.models.load import DTYPES, DType
from palate.models.scalar import Normalisation, ScalarModel, scalar_from
from palate.objectives.bradley_terry import BradleyTerry
from palate.objectives.reward import RewardObjective
from palate.rewards.learned import Card, LearnedReward
from palate.runs.run import Run
from palate.training.comparisons import Judged, judged_prompts
from palate.training.imitation import epochs_of
from palate.training.keep import Best, Keep, Last
from palate.training.learner import Learner
from palate.training.loop import fit, mean_loss
from palate.training.model_io import keep_model, search, trainable, trained
from palate.training.optimizer import AdamW
from palate.training.places import NO_LIMIT, file_at, model_at
from palate.training.reward_batches import Lessons

Floats = npt.NDArray[np.float64]
REFERENCE_PROMPTS = 1000


@dataclass(frozen=True)
class Reward:
    """Train a reward model on preferences.

    Attributes:
        model: the language model whose backbone it starts from; usually the fine-tuned one.
        preferences: what to learn; each dimension that occurs gets a head of its own.
        axis: where the rows are ratings on several axes, the one that pairs are made by; `mean` takes their mean.
        held_out: preferences for testing; none keeps `held_out_share` of the prompts back.
        reference_samples: completions of the policy to be trained, on which scores get mean 0 and deviation 1; none takes the
            preferences' own.
        held_out_share: share of prompts kept back when `held_out` is none.
        limit: preferences read at most; none reads all.
        epochs: passes over the data; more than two over-fit.
        prompts_per_step: prompts (with all their completions) an optimizer step.
        max_tokens: longest prompt and completion together; none takes the model's limit.
        tokens_per_microbatch: tokens a forward pass holds at most.
        control: shuffled gives chosen and rejected at random: a model that must stay at chance.
        rater_weights: how much a rater's judgments count, by name; others count 1, and 0 leaves one out. Then single votes are the labels.
        objective: the loss.
        optimizer: how the weights are moved.
        adapters: train a LoRA adapter on the frozen backbone, and the heads; none trains the whole model.
        dtype: what the forward and backward pass compute in; weights, gradients over a step and optimizer state stay float32.
        checkpoint_activations: compute activations anew in the backward pass instead of holding them: less memory, one more forward pass.
        keep: the last weights, or the best on a further `held_out_share` of the prompts: the held-out data judge the model, so they cannot
            choose it too.
    """

    model: ModelInput
    preferences: Input
    axis: str = MEAN
    held_out: Input | None = None
    reference_samples: Input | None = None
    held_out_share: float = 0.1
    limit: Count | None = None
    epochs: Amount = 1.0
    prompts_per_step: Count = 32
    max_tokens: Count | None = None
    tokens_per_microbatch: Count = 1024
    control: Literal["none", "shuffled"] = "none"
    rater_weights: dict[str, float] = field(default_factory=dict)
    objective: RewardObjective = field(default_factory=BradleyTerry)
    optimizer: AdamW = field(default_factory=lambda: AdamW(lr=1e-4))
    adapters: LoRA | None = None
    dtype: DType = "float32"
    checkpoint_activations: bool = False
    keep: Keep = field(default_factory=Last)

    def check(self) -> None:
        """Checks the share kept back and the weights of raters."""
        if (self.held_out is None or isinstance(self.keep, Best)) and not 0 < self.held_out_share < 1:
            raise ConfigError(
                f"held_out_share must lie between 0 and 1, got {self.held_out_share}: a reward model without a test is not to be trusted"
            )
        for name, weight in self.rater_weights.items():
            if weight < 0:
                raise ConfigError(
                    f"rater_weights: {name} must count 0 or more, got {weight}; a rater who errs on purpose is found by crowd_bt"
                )

    def run(self, run: Run) -> None:
        """Trains the model, normalises and tests it; saves `model/` with its card, and `predictions.jsonl`."""
        train, test = self._split(run)
        dimensions = tuple(dict.fromkeys(preference.dimension for preference in train))
        base = model_at(self.model)
        fresh = scalar_from(base, dimensions, seed=derive_seed(run.seed, "heads"))
        model = trainable(run, fresh, base, self.adapters, checkpoint_activations=self.checkpoint_activations)
        limit = self.max_tokens or model.max_tokens or NO_LIMIT
        train, chooser = (
            (train, []) if isinstance(self.keep, Last) else keep_back(train, self.held_out_share, derive_seed(run.seed, "keep"))
        )
        judged, dropped = judged_prompts(train, model.tokenizer, limit)
        choosing, _ = judged_prompts(chooser, model.tokenizer, limit)
        tested, dropped_test = judged_prompts(test, model.tokenizer, limit)
        run.dropped("preferences that do not fit", dropped + dropped_test)
        if not judged or not tested:
            raise DataError(
                f"{self.preferences}: nothing is left to {'train' if not judged else 'test'} on; {sorted(set(dropped + dropped_test))}"
            )
        lessons = Lessons.of(self.objective, judged + choosing, self.rater_weights)
        if lessons.unused:
            run.dropped("rankings", list(lessons.unused))
        kept_back = {preference.prompt.conversation for preference in chooser}
        chooses = [one.preferences[0].prompt.conversation in kept_back for one in lessons.judged]
        # Prompts that choose come after those that teach, so the latter's numbers count from 0.
        learning, measured_on = ([k for k, held in enumerate(chooses) if held == which] for which in (False, True))
        if not learning:
            raise DataError(f"{self.preferences}: {self.objective.kind} finds nothing to learn from; {sorted(set(lessons.unused))}")
        epochs = epochs_of(run, len(learning), self.prompts_per_step, self.epochs, lambda k: lessons.judged[k].source)
        learned = lessons.learned(self.optimizer.lr)
        modules: dict[str, nn.Module] = {"reward": model.module}
        if learned is not None:
            modules["objective"] = learned
        learner = Learner(modules, self.optimizer, epochs.steps, dtype=DTYPES[self.dtype])
        batches = lessons.batches(dimensions, self.tokens_per_microbatch)
        loss = lessons.loss(model, learned, lambda: learner.steps_done / epochs.steps)
        last = fit(run, learner, epochs, batches, loss, "reward", search(self.keep, lambda: mean_loss(batches(measured_on), loss)))
        model = trained(run, model, self.adapters, learner)
        spread = self._normalise(model, judged)
        rows = predictions(model, tested, dimensions)
        write_rows(run.directory / "predictions.jsonl", rows)
        measured = assess(rows)
        overall = measured["overall"]
        best_rule = max(overall["longer_wins"], overall["shorter_wins"])
        Card(overall["accuracy"], int(overall["n"]), spread, best_rule).write(keep_model(run, model, self.adapters))
        run.summary(
            {
                "prompts": len(learning),
                "preferences": sum(len(one.pairs) for one in judged),
                "last": last,
                "learned": lessons.told(learned),
                "spread": spread,
                "held_out": measured,
                **ask_next(run, self.preferences, model, judged),
            }
        )

    def _split(self, run: Run) -> tuple[list[Preference], list[Preference]]:
        """Preferences to train and to test on; no prompt is in both."""
        table = read_preferences(file_at(self.preferences, "preferences.jsonl"), limit=self.limit, axis=self.axis)
        reasons = [row.kind for row in table.dropped]
        rows = table.rows
        if self.held_out is not None:
            held = read_preferences(file_at(self.held_out, "held_out.jsonl"), axis=self.axis)
            run.dropped(self.held_out, [row.kind for row in held.dropped])
            test = held.rows
            prompts = {preference.prompt.conversation for preference in test}
            train = [preference for preference in rows if preference.prompt.conversation not in prompts]
            reasons += ["its prompt is held out"] * (len(rows) - len(train))
        else:
            train, test = keep_back(rows, self.held_out_share, derive_seed(run.seed, "held_out"))
        run.dropped(self.preferences, reasons)
        if not train:
            raise DataError(f"{self.preferences}: no preference is left to train on; give more prompts than are held out")
        return (shuffled(train, derive_seed(run.seed, "shuffle")) if self.control == "shuffled" else train), test

    def _normalise(self, model: ScalarModel, judged: Sequence[Judged]) -> float:
        """Sets gain and bias so that the heads' sum has mean 0 and deviation 1 on reference samples; returns its raw deviation."""
        reward = LearnedReward(model)
        if self.reference_samples is not None:
            samples = read_samples(self.reference_samples)[:REFERENCE_PROMPTS]
            trees = [reward.tree(prompt, completions) for prompt, completions in samples]
        else:
            trees = [one.tree for one in judged[:REFERENCE_PROMPTS]]
        model.normalisation, spread = normalisation_of(reward.score_trees(trees))
        return spread


def normalisation_of(raw: Tensor) -> tuple[Normalisation, float]:
    """Gain and bias of each head for raw scores (n, h), so that their sum has mean 0 and deviation 1; and its raw deviation.

    The deviation is the biased one (Ziegler et al. 2019 sec. 2.2); scores that are all alike keep their scale.
    """
    spread = float(raw.sum(1).std(unbiased=False))
    gain = 1 / spread if spread > 0 else 1.0
    return Normalisation((gain,) * raw.shape[1], tuple((-gain * raw.mean(0)).tolist())), spread


def keep_back(preferences: Sequence[Preference], share: float, seed: int) -> tuple[list[Preference], list[Preference]]:
    """The preferences without a share of their prompts, and those of that share."""
    distinct = list(dict.fromkeys(preference.prompt.conversation for preference in preferences))
    kept = set(random.Random(seed).sample(distinct, max(1, round(share * len(distinct)))))
    rest = [preference for preference in preferences if preference.prompt.conversation not in kept]
    return rest, [preference for preference in preferences if preference.prompt.conversation in kept]


def shuffled(preferences: Sequence[Preference], seed: int) -> list[Preference]:
    """The same pairs with a coin tossed for which side is called chosen: a control without any signal."""
    rng = random.Random(seed)
    return [replace(p, chosen=p.rejected, rejected=p.chosen) if rng.random() < 0.5 else p for p in preferences]


def predictions(model: ScalarModel, judged: Sequence[Judged], dimensions: tuple[str, ...]) -> list[dict[str, float | str]]:
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


def stated(rows: Sequence[dict[str, float | str]], bins: int = 10) -> tuple[Bin, ...]:
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
        "calibration_error": expected_calibration_error(stated(rows)),
        "longer_wins": longer_wins.value,
        "shorter_wins": 1 - longer_wins.value,
    }

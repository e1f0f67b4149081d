"""Stage `reward`: a reward model from preferences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from palate.config.artifacts import file_at, model_at
from palate.config.types import Amount, Count, Input, ModelInput
from palate.core import ConfigError, DataError, Preference, derive_seed
from palate.data.formats import MEAN, read_preferences
from palate.data.jsonl import write_rows
from palate.data.samples import read_samples
from palate.data.splits import shuffled, split_held_out
from palate.evaluation.active_learning import ask_next
from palate.evaluation.reward_model import REFERENCE_PROMPTS, assess, normalisation_of, predictions
from palate.models.adapters import LoRA
from palate.models.load import DTYPES, DType
from palate.models.scalar import ScalarModel, scalar_from
from palate.objectives.bradley_terry import BradleyTerry
from palate.objectives.reward_objectives import RewardObjective
from palate.rewards.learned import LearnedReward, ReportCard
from palate.runs.run import Run
from palate.text.spans import NO_LIMIT
from palate.training.comparisons import JudgedPrompt, judged_prompts
from palate.training.fit import epochs_of, fit, mean_loss
from palate.training.keep import Best, Keep, Last
from palate.training.learner import Learner
from palate.training.model_io import keep_model, search, trainable, trained
from palate.training.optimizer import AdamW
from palate.training.reward_batches import RewardBatches


@dataclass(frozen=True)
class Reward:
    """Train a reward model on preferences.

    Attributes:
        model: the language model whose backbone it starts from; usually the fine-tuned one.
        preferences: what to learn; each dimension that occurs gets a head of its own.
        dimension: where the rows are ratings on several dimensions, the one that pairs are made by; `mean` takes their mean.
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
    dimension: str = MEAN
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
            (train, []) if isinstance(self.keep, Last) else split_held_out(train, self.held_out_share, derive_seed(run.seed, "keep"))
        )
        judged, dropped = judged_prompts(train, model.tokenizer, limit)
        choosing, _ = judged_prompts(chooser, model.tokenizer, limit)
        tested, dropped_test = judged_prompts(test, model.tokenizer, limit)
        run.dropped("preferences that do not fit", dropped + dropped_test)
        if not judged or not tested:
            raise DataError(
                f"{self.preferences}: nothing is left to {'train' if not judged else 'test'} on; {sorted(set(dropped + dropped_test))}"
            )
        lessons = RewardBatches.of(self.objective, judged + choosing, self.rater_weights)
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
        ReportCard(overall["accuracy"], int(overall["n"]), spread, best_rule).write(keep_model(run, model, self.adapters))
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
        table = read_preferences(file_at(self.preferences, "preferences.jsonl"), limit=self.limit, dimension=self.dimension)
        reasons = [row.kind for row in table.dropped]
        rows = table.rows
        if self.held_out is not None:
            held = read_preferences(file_at(self.held_out, "held_out.jsonl"), dimension=self.dimension)
            run.dropped(self.held_out, [row.kind for row in held.dropped])
            test = held.rows
            prompts = {preference.prompt.conversation for preference in test}
            train = [preference for preference in rows if preference.prompt.conversation not in prompts]
            reasons += ["its prompt is held out"] * (len(rows) - len(train))
        else:
            train, test = split_held_out(rows, self.held_out_share, derive_seed(run.seed, "held_out"))
        run.dropped(self.preferences, reasons)
        if not train:
            raise DataError(f"{self.preferences}: no preference is left to train on; give more prompts than are held out")
        return (shuffled(train, derive_seed(run.seed, "shuffle")) if self.control == "shuffled" else train), test

    def _normalise(self, model: ScalarModel, judged: Sequence[JudgedPrompt]) -> float:
        """Sets gain and bias so that the heads' sum has mean 0 and deviation 1 on reference samples; returns its raw deviation."""
        reward = LearnedReward(model)
        if self.reference_samples is not None:
            samples = read_samples(self.reference_samples)[:REFERENCE_PROMPTS]
            trees = [reward.tree(prompt, completions) for prompt, completions in samples]
        else:
            trees = [one.tree for one in judged[:REFERENCE_PROMPTS]]
        model.normalisation, spread = normalisation_of(reward.score_trees(trees))
        return spread

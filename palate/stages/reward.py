"""Stage `reward`: train a reward model on preferences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from palate.config.artifacts import file_at, model_at
from palate.config.types import Amount, Count, Input, ModelInput
from palate.core import ConfigError, DataError, Preference, derive_seed
from palate.core.process import before_sharing_out
from palate.data.formats import MEAN, ColumnTypes, Recognised, read_preferences
from palate.data.jsonl import write_rows
from palate.data.splits import shuffled, split_held_out
from palate.evaluation.active_learning import ask_next
from palate.evaluation.reward_model import REFERENCE_PROMPTS, assess, card_of, normalisation_of, predictions, reference_samples
from palate.models.adapters import LoRA, four_bit_of
from palate.models.precision import DType, dtype_of
from palate.models.scalar import ScalarModel, scalar_from
from palate.objectives.bradley_terry import BradleyTerry
from palate.objectives.reward_objectives import RewardObjective
from palate.rewards.learned import LearnedReward
from palate.runs.run import Run
from palate.training.comparisons import JudgedPrompt, judged_prompts
from palate.training.fit import epochs_of, fit, mean_loss, warn_of_few_steps
from palate.training.keep import Best, Keep, Last
from palate.training.learner import Learner
from palate.training.model_io import check_packages, keep_model, search, token_limit, trainable, trained
from palate.training.optimizer import AdamW
from palate.training.reward_batches import RewardBatches
from palate.training.template_remarks import tell_of


@dataclass(frozen=True)
class Reward:
    """Train a reward model on preferences.

    Attributes:
        model: the language model whose backbone the reward model starts from; usually the fine-tuned one.
        preferences: the preferences to learn; each dimension that occurs gets its own head.
        columns: what the columns of `preferences` and `held_out` hold where their names do not say it: a type, and columns by name.
        dimension: the dimension by which ratings on several dimensions become pairs; `mean` uses the mean of all.
        held_out: preferences for testing; none sets `held_out_share` of the prompts aside.
        reference_samples: completions of the policy to be trained, on which scores get mean 0 and deviation 1; none uses those of the
            preferences.
        held_out_share: share of the prompts for testing where `held_out` is none.
        limit: how many preferences are read, at most; none reads all.
        epochs: epochs over the data; more than two over-fit.
        prompts_per_step: prompts, with all their completions, per optimizer step.
        max_tokens: most tokens of prompt and completion together; none uses the model's limit.
        tokens_per_microbatch: tokens in a forward pass, at most.
        control: shuffled swaps chosen and rejected at random; that model must stay at chance.
        rater_weights: weight of each rater's judgments, by name; others have 1, and 0 leaves a rater out. The labels are then single votes.
        objective: the loss.
        score: what a score reads. last_token is a linear head on the last token's state. with_likelihood adds a learned coefficient per
            head times the mean log-likelihood of the completion, by the model's own language-model head.
        optimizer: the optimizer and its schedule.
        adapters: train a LoRA adapter on the frozen backbone, and the heads; none trains all weights.
        dtype: the type that forward and backward pass compute in; auto is bfloat16 on GPUs, else float32. Weights stay float32.
        checkpoint_activations: recompute activations in the backward pass: it needs less memory and one more forward pass.
        keep: the last weights, or the best on a further `held_out_share` of the prompts. The held-out data test the model, so they cannot
            also choose it.
    """

    model: ModelInput
    preferences: Input
    columns: ColumnTypes = field(default_factory=Recognised)
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
    score: Literal["last_token", "with_likelihood"] = "last_token"
    optimizer: AdamW = field(default_factory=lambda: AdamW(lr=1e-4))
    adapters: LoRA | None = None
    dtype: DType = "auto"
    checkpoint_activations: bool = False
    keep: Keep = field(default_factory=Last)

    def check(self) -> None:
        """Raise ConfigError when the held-out share or the weight of a rater is out of range, or a package is missing."""
        check_packages(self.optimizer, self.adapters)
        if (self.held_out is None or isinstance(self.keep, Best)) and not 0 < self.held_out_share < 1:
            raise ConfigError(f"held_out_share must lie between 0 and 1, got {self.held_out_share}: a reward model needs a test")
        for name, weight in self.rater_weights.items():
            if weight < 0:
                raise ConfigError(
                    f"rater_weights: {name} must be 0 or more, got {weight}. Use objective: crowd_bt for raters who err on purpose"
                )

    def run(self, run: Run) -> None:
        """Train the model, normalise and test it; save `model/` with its report card, and `predictions.jsonl`."""
        train, test = self._split(run)
        dimensions = tuple(dict.fromkeys(preference.dimension for preference in train))
        model = self._untrained(run, dimensions)
        limit = token_limit(model, self.max_tokens)
        train, choosing = (
            (train, []) if isinstance(self.keep, Last) else split_held_out(train, self.held_out_share, derive_seed(run.seed, "keep"))
        )
        train_prompts, dropped = judged_prompts(train, model.tokenizer, limit)
        choosing_prompts, _ = judged_prompts(choosing, model.tokenizer, limit)
        test_prompts, dropped_test = judged_prompts(test, model.tokenizer, limit)
        run.dropped("preferences that do not fit", dropped + dropped_test)
        tell_of(run, self.preferences, [*train_prompts, *choosing_prompts, *test_prompts])
        if not train_prompts or not test_prompts:
            raise DataError(
                f"{self.preferences}: nothing is left to {'test' if train_prompts else 'train'} on; {sorted(set(dropped + dropped_test))}"
            )
        _check_dimensions(run, dimensions, test_prompts, self.held_out or self.preferences)
        data = RewardBatches.of(self.objective, train_prompts + choosing_prompts, self.rater_weights)
        if data.unused:
            run.dropped("rankings", list(data.unused))
        choosing_conversations = {preference.prompt.conversation for preference in choosing}
        is_choosing = [prompt.preferences[0].prompt.conversation in choosing_conversations for prompt in data.judged]
        # Prompts that choose the weights come after those that train them, so the numbers of the latter count from 0.
        training, measuring = ([k for k, chooses in enumerate(is_choosing) if chooses == which] for which in (False, True))
        if not training:
            raise DataError(f"{self.preferences}: {self.objective.kind} can use none of the preferences; {sorted(set(data.unused))}")
        epochs = epochs_of(run, len(training), self.prompts_per_step, self.epochs, lambda k: data.judged[k].source)
        warn_of_few_steps(run, epochs, sum(len(data.judged[k].pairs) for k in training))
        learned = data.learned(self.optimizer.lr)
        modules: dict[str, nn.Module] = {"reward": model.module}
        if learned is not None:
            modules["objective"] = learned
        learner = Learner(modules, self.optimizer, epochs.steps, dtype=dtype_of(self.dtype))
        batches = data.batches(dimensions, self.tokens_per_microbatch)
        loss = data.loss(model, learned, lambda: learner.steps_done / epochs.steps)
        last = fit(run, learner, epochs, batches, loss, "reward", search(self.keep, lambda: mean_loss(batches(measuring), loss)))
        model = trained(run, model, self.adapters, learner)
        spread = self._normalise(run, model, train_prompts)
        rows = predictions(model, test_prompts, dimensions)
        write_rows(run.directory / "predictions.jsonl", rows)
        figures = assess(rows)
        overall = figures["overall"]
        card_of(overall, spread).write(keep_model(run, model, self.adapters))
        run.summary(
            {
                "prompts": len(training),
                "preferences": sum(len(prompt.pairs) for prompt in train_prompts),
                "last": last,
                "learned": data.learned_figures(learned),
                **({} if model.likelihood is None else {"likelihood": model.likelihood.figures(model.heads)}),
                "spread": spread,
                "held_out": figures,
                **ask_next(run, self.preferences, model, train_prompts),
            }
        )

    def _untrained(self, run: Run, dimensions: tuple[str, ...]) -> ScalarModel:
        """Return the model as it will learn, with new heads."""
        base = model_at(self.model)
        with before_sharing_out(learns=self.adapters is None):
            fresh = scalar_from(
                base,
                dimensions,
                seed=derive_seed(run.seed, "heads"),
                four_bit=four_bit_of(self.adapters),
                reads_likelihood=self.score == "with_likelihood",
            )
        return trainable(run, fresh, base, self.adapters, checkpoint_activations=self.checkpoint_activations)

    def _split(self, run: Run) -> tuple[list[Preference], list[Preference]]:
        """Return the preferences to train and to test on; no prompt is in both."""
        table = read_preferences(
            file_at(self.preferences, "preferences.jsonl"), limit=self.limit, dimension=self.dimension, columns=self.columns
        )
        run.columns_left_out(self.preferences, table.further)
        reasons = [row.kind for row in table.dropped]
        rows = table.rows
        if self.held_out is not None:
            held_out = read_preferences(file_at(self.held_out, "held_out.jsonl"), dimension=self.dimension, columns=self.columns)
            run.dropped(self.held_out, [row.kind for row in held_out.dropped])
            test = held_out.rows
            prompts = {preference.prompt.conversation for preference in test}
            train = [preference for preference in rows if preference.prompt.conversation not in prompts]
            reasons += ["its prompt is held out"] * (len(rows) - len(train))
        else:
            train, test = split_held_out(rows, self.held_out_share, derive_seed(run.seed, "held_out"))
        run.dropped(self.preferences, reasons)
        if not train:
            raise DataError(f"{self.preferences}: no preference is left to train on. Give more prompts than are held out")
        return (shuffled(train, derive_seed(run.seed, "shuffle")) if self.control == "shuffled" else train), test

    def _normalise(self, run: Run, model: ScalarModel, prompts: Sequence[JudgedPrompt]) -> float:
        """Set gain and bias so that the heads' sum has mean 0 and deviation 1 on reference samples; return its raw deviation."""
        reward = LearnedReward(model)
        if self.reference_samples is not None:
            _, trees = reference_samples(run, self.reference_samples, reward)
        else:
            trees = [prompt.tree for prompt in prompts[:REFERENCE_PROMPTS]]
        model.normalisation, spread = normalisation_of(reward.score_trees(trees))
        return spread


def _check_dimensions(run: Run, dimensions: tuple[str, ...], tests: Sequence[JudgedPrompt], path: str) -> None:
    """Record held-out judgments of dimensions that are not trained on; raise DataError where there are no others."""
    tested = [pair.dimension for prompt in tests for pair in prompt.pairs]
    others = [dimension for dimension in tested if dimension not in dimensions]
    if len(others) == len(tested):
        raise DataError(
            f"{path}: the held-out judgments are about {', '.join(dict.fromkeys(others))}, and the model learns {', '.join(dimensions)}. "
            "Hold out judgments of a dimension that is trained on"
        )
    if others:
        run.dropped("held-out judgments", [f"the model does not learn {dimension}" for dimension in others])

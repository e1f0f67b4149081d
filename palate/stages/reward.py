"""Stage `reward`: train a reward model on preferences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from typing import Any, Literal

from torch import nn

from palate.config.artifacts import model_at
from palate.config.types import Amount, Count, ModelInput, name_of_kind
from palate.core import ConfigError, DataError, Preference, derive_seed
from palate.data.data_sources import DataInput, check_unweighted, data_name, read_data, sources_of, taking_turns
from palate.data.formats import MEAN, ColumnTypes, Recognised, read_preferences
from palate.data.jsonl import write_rows
from palate.data.prompt_region import PromptRegion
from palate.data.splits import shuffled, split_held_out
from palate.distributed.ranks import from_writer
from palate.distributed.windows import windows
from palate.evaluation.active_learning import DrawnMembers, TrainedMembers, ask_next
from palate.evaluation.ensemble_summary import ensemble_summary, joined_predictions
from palate.evaluation.reward_check.length_effect import length_of_rows
from palate.evaluation.reward_model import (
    REFERENCE_PROMPTS,
    assess,
    assess_sources,
    card_of,
    normalisation_of,
    predictions,
    reference_samples,
)
from palate.models.adapters import LoRA, four_bit_of
from palate.models.precision import DType, dtype_of
from palate.models.reward_file import member_heads
from palate.models.scalar import ScalarModel, scalar_from
from palate.models.shared_layers import sharing_out
from palate.objectives.bradley_terry import BradleyTerry
from palate.objectives.reward_objectives import RewardObjective
from palate.rewards.combination import RewardModels
from palate.rewards.ensemble_members import require_alike_starts
from palate.rewards.learned import LearnedReward
from palate.runs.member_runs import member_runs
from palate.runs.run import Run
from palate.training.bootstrap import Members
from palate.training.checkpoints import check_stop
from palate.training.comparisons import judged_prompts
from palate.training.epochs import mixture_of, sources_summary
from palate.training.fit import epochs_of, fit, measured, warn_of_few_steps
from palate.training.keep import Best, Keep, Last
from palate.training.learner import Learner
from palate.training.length_head import LengthHead, LengthPenalty, with_length, without_length
from palate.training.model_io import check_packages, keep_model, search, token_limit, trainable, trained
from palate.training.optimizer import AdamW
from palate.training.rater_groups import RaterGroups, by_group, require_votes
from palate.training.reward_batches import RewardBatches, scored_loss
from palate.training.reward_task import RewardTask, check_dimensions
from palate.training.source_losses import told_apart
from palate.training.template_remarks import tell_of


@dataclass(frozen=True)
class Reward:
    """Train a reward model on preferences.

    Attributes:
        model: the language model whose backbone the reward model starts from; usually the fine-tuned one.
        preferences: the preferences to learn; each dimension that occurs gets its own head. One path, or several sources with weights
            (docs/data.md).
        columns: what the columns of `preferences` and `held_out` hold where their names do not say it: a type, and columns by name.
        dimension: the dimension by which ratings on several dimensions become pairs; `mean` uses the mean of all.
        held_out: preferences for testing; none sets `held_out_share` of the prompts aside.
        reference_samples: completions of the policy to be trained, on which scores get mean 0 and deviation 1; none uses those of the
            preferences.
        held_out_share: share of the prompts for testing where `held_out` is none.
        limit: how many preferences are read, at most; none reads all.
        leave_out: prompts whose preferences are not learned, to see what that costs; they are still tested on. None learns all.
        epochs: epochs over the data; more than two over-fit.
        prompts_per_step: prompts, with all their completions, per optimizer step.
        max_tokens: most tokens of prompt and completion together; none uses the model's limit.
        tokens_per_microbatch: tokens in a forward pass, at most.
        control: shuffled swaps chosen and rejected at random; that model must stay at chance.
        rater_weights: weight of each rater's judgments, by name; others have 1, and 0 leaves a rater out. The labels are then single votes.
        objective: the loss.
        score: what a score reads. last_token is a linear head on the last token's state, or on what an encoder pools. with_likelihood adds
            a learned coefficient per head times the mean log-likelihood of the completion, by the model's own language-model head.
            mean_pooled is a linear head on the mean state of the completion.
        optimizer: the optimizer and its schedule.
        adapters: train a LoRA adapter on the frozen backbone, and the heads; none trains all weights.
        dtype: the type that forward and backward pass compute in; auto is bfloat16 on GPUs, else float32. Weights stay float32.
        checkpoint_activations: recompute activations in the backward pass: it needs less memory and one more forward pass.
        keep: the last weights, or the best on a further `held_out_share` of the prompts. The held-out data test the model, so they cannot
            also choose it.
        members: train an ensemble of this many models, or of heads on one trunk; none trains one model.
        length_head: learn length with a second head per dimension, which is dropped after training; none has no such head.
        groups: learn a head per dimension and group of raters, from the share of that group's votes; none has one head per dimension.
    """

    model: ModelInput
    preferences: DataInput
    columns: ColumnTypes = field(default_factory=Recognised)
    dimension: str = MEAN
    held_out: DataInput | None = None
    reference_samples: DataInput | None = None
    held_out_share: float = 0.1
    limit: Count | None = None
    leave_out: PromptRegion | None = None
    epochs: Amount = 1.0
    prompts_per_step: Count = 32
    max_tokens: Count | None = None
    tokens_per_microbatch: Count = 1024
    control: Literal["none", "shuffled"] = "none"
    rater_weights: dict[str, float] = field(default_factory=dict)
    objective: RewardObjective = field(default_factory=BradleyTerry)
    score: Literal["last_token", "with_likelihood", "mean_pooled"] = "last_token"
    optimizer: AdamW = field(default_factory=lambda: AdamW(lr=1e-4))
    adapters: LoRA | None = None
    dtype: DType = "auto"
    checkpoint_activations: bool = False
    keep: Keep = field(default_factory=Last)
    members: Members | None = None
    length_head: LengthHead | None = None
    groups: RaterGroups | None = None

    def check(self) -> None:
        """Raise ConfigError when a share or a weight is out of range, settings contradict each other, or a package is missing."""
        sources_of(self.preferences)
        check_unweighted(self.held_out, self.reference_samples)
        check_packages(self.optimizer, self.adapters)
        if (self.held_out is None or isinstance(self.keep, Best)) and not 0 < self.held_out_share < 1:
            raise ConfigError(f"held_out_share must lie between 0 and 1, got {self.held_out_share}: a reward model needs a test")
        for name, weight in self.rater_weights.items():
            if weight < 0:
                raise ConfigError(f"rater_weights: {name} must be 0 or more, got {weight}. objective: crowd_bt finds who errs on purpose")
        if self.length_head is not None and self.adapters is not None:
            raise ConfigError("length_head is dropped from a model that learns whole, and adapters keep their heads. Leave one of them out")
        starts = [] if self.members is None else list(self.members.starts(self.model).values())
        if twice := [path for k, path in enumerate(starts) if path in starts[:k]]:
            raise ConfigError(
                f"members.other_models names {twice[0]} a second time. Name models other than `model`, each once: members start from it too"
            )
        if self.groups is not None and (self.rater_weights or self.objective.learns_from != "preferences"):
            raise ConfigError(
                "groups learns the shares of each group's votes, and rater_weights and objectives of single judgments or rankings do not "
                "read shares. Use objective: bradley_terry without rater_weights"
            )

    def run(self, run: Run) -> None:
        """Train the model, normalise and test it; save `model/` with its report card, and `predictions.jsonl`.

        The members of an ensemble that do not share a trunk are runs of their own in `members/`, and `predictions.jsonl` has their mean.
        """
        if self.members is not None and self.members.other_models:
            require_alike_starts(list(self.members.starts(self.model).values()))
        train, test = self._split(run)
        dimensions = tuple(dict.fromkeys(preference.dimension for preference in train))
        model = self._untrained(run, dimensions, run)
        task = self._task(run, train, test, model)
        if self.members is None:
            run.summary(self._trained(run, task, model))
        elif self.members.trunk == "shared":
            run.summary(self._trained(run, task.of_shared_trunk(self.members, run.seed), model))
        else:
            del model
            self._each(run, task, self.members)

    def _each(self, run: Run, task: RewardTask, members: Members) -> None:
        """Train the members of an ensemble, each in a run of its own; those that are done are not trained again."""
        done = []
        for member, start in member_runs(run, members.count, members.starts(self.model)):
            if not from_writer(partial(bool, member.is_done)):
                with member.active():
                    heads_of = run if members.heads == "same" else member
                    model = replace(self, model=start)._untrained(member, task.dimensions, heads_of)
                    member.summary(self._trained(member, task.of_member(members, member.seed), model))
            done.append(member.directory)
            for stopped in (member, run):
                check_stop(stopped)
        summary = from_writer(partial(ensemble_summary, run.directory, done))
        asked = ask_next(run, self.preferences, lambda: TrainedMembers(RewardModels.load([str(path) for path in done])))
        run.summary({**summary, **asked})

    def _trained(self, run: Run, task: RewardTask, model: ScalarModel) -> dict[str, object]:
        """Train a model, write it with its report card and its predictions, and return the figures of the summary."""
        data = task.data
        mixture = mixture_of(run, task.source_names, self.preferences)
        epochs = epochs_of(run, task.count, self.prompts_per_step, self.epochs, lambda k: data.judged[k].source, mixture)
        warn_of_few_steps(run, epochs, sum(len(data.judged[k].pairs) for k in task.training))
        learned = data.learned(self.optimizer.lr)
        modules: dict[str, nn.Module] = {"reward": model.module}
        if learned is not None:
            modules["objective"] = learned
        learner = Learner(modules, self.optimizer, epochs.steps, dtype=dtype_of(self.dtype))
        batches = data.batches(task.heads, self.tokens_per_microbatch)
        of_scores = data.loss_of_scores(learned, lambda: learner.steps_done / epochs.steps)
        if self.length_head is None:
            loss = partial(scored_loss, model, of_scores)
            last = fit(run, learner, epochs, batches, loss, search(self.keep, lambda: measured(batches(task.choosing), loss)))
        else:
            penalty = LengthPenalty(self.length_head, model, of_scores)
            whole = penalty.batches(batches)
            last = fit(run, learner, epochs, whole, penalty, search(self.keep, lambda: measured(whole(task.choosing), penalty)))
        model = trained(run, model, self.adapters, learner)
        both_heads = None if self.length_head is None else length_of_rows(joined_predictions(model, task))
        model = model if self.length_head is None else without_length(model)
        spread = self._normalise(run, model, task)
        rows = predictions(model, task.test, task.dimensions)
        write_rows(run.directory / "predictions.jsonl", rows)
        figures = assess(rows)
        card_of(figures["overall"], spread).write(keep_model(run, model, self.adapters))
        return {
            "prompts": task.count,
            "preferences": task.preferences,
            **sources_summary(task.source_names, mixture),
            "last": last,
            "learned": data.learned_figures(learned),
            **({} if model.likelihood is None else {"likelihood": model.likelihood.figures(model.heads)}),
            "spread": spread,
            "held_out": figures,
            **assess_sources(rows),
            **({} if self.length_head is None else {"length": {"both_heads": both_heads, "quality_head": length_of_rows(rows)}}),
            **self._asked_next(run, model, task),
        }

    def _asked_next(self, run: Run, model: ScalarModel, task: RewardTask) -> dict[str, dict[str, Any]]:
        """Order the queue that the preferences came from. Members with trunks of their own do so together, once all are done."""
        if self.members is None:
            return ask_next(run, self.preferences, lambda: DrawnMembers(model, task.judged, run.seed))
        if self.members.trunk == "own":
            return {}
        return ask_next(run, self.preferences, lambda: TrainedMembers(RewardModels({"": LearnedReward(model)})))

    def _task(self, run: Run, train: list[Preference], test: Sequence[Preference], model: ScalarModel) -> RewardTask:
        """Return the judged prompts in the model's tokens, and record what cannot be used.

        Raises:
            DataError: nothing is left to train or to test on.
        """
        dimensions = tuple(dict.fromkeys(preference.dimension for preference in train))
        limit, name = token_limit(model, self.max_tokens), data_name(self.preferences)
        train, choosing = (
            (train, []) if isinstance(self.keep, Last) else split_held_out(train, self.held_out_share, derive_seed(run.seed, "keep"))
        )
        train_prompts, dropped = judged_prompts(train, model.tokenizer, limit)
        choosing_prompts, _ = judged_prompts(choosing, model.tokenizer, limit)
        test_prompts, dropped_test = judged_prompts(test, model.tokenizer, limit)
        run.dropped("preferences that do not fit", dropped + dropped_test)
        tell_of(run, name, [*train_prompts, *choosing_prompts, *test_prompts])
        if not train_prompts or not test_prompts:
            raise DataError(f"{name}: nothing is left to {'test' if train_prompts else 'train'} on; {sorted(set(dropped + dropped_test))}")
        check_dimensions(run, dimensions, test_prompts, name if self.held_out is None else data_name(self.held_out))
        data = RewardBatches.of(self.objective, told_apart(train_prompts + choosing_prompts), self.rater_weights)
        if data.unused:
            run.dropped("rankings", list(data.unused))
        choosing_conversations = {preference.prompt.conversation for preference in choosing}
        # Prompts that choose the weights come after those that train them, so the numbers of the latter count from 0.
        count = sum(prompt.preferences[0].prompt.conversation not in choosing_conversations for prompt in data.judged)
        if not count:
            raise DataError(f"{name}: {name_of_kind(self.objective)} can use none of the preferences; {sorted(set(data.unused))}")
        return RewardTask(dimensions, dimensions, data, count, train_prompts, told_apart(test_prompts))

    def _untrained(self, run: Run, dimensions: tuple[str, ...], heads_of: Run) -> ScalarModel:
        """Return the model as it will learn, with new heads, drawn from the seed of the run `heads_of`."""
        base = model_at(self.model)
        heads = dimensions if self.members is None or self.members.trunk == "own" else member_heads(dimensions, self.members.count)
        with sharing_out(windows(), learns=self.adapters is None):
            fresh = scalar_from(
                base,
                heads if self.length_head is None else with_length(heads),
                seed=derive_seed(heads_of.seed, "heads"),
                four_bit=four_bit_of(self.adapters),
                reads_likelihood=self.score == "with_likelihood",
                reads_mean=self.score == "mean_pooled",
            )
        return trainable(run, fresh, base, self.adapters, checkpoint_activations=self.checkpoint_activations)

    def _split(self, run: Run) -> tuple[list[Preference], list[Preference]]:
        """Return the preferences to train and to test on; no prompt is in both."""
        read, name = partial(read_preferences, dimension=self.dimension), data_name(self.preferences)
        table = read_data(self.preferences, "preferences.jsonl", read, self.limit, self.columns)
        run.columns_left_out(name, table.further)
        reasons = [row.kind for row in table.dropped]
        rows = self._grouped(run, name, table.rows)
        if self.groups is not None:
            require_votes(name, rows, self.groups.read())
        if self.held_out is not None:
            held_out = read_data(self.held_out, "held_out.jsonl", read, None, self.columns)
            run.dropped(data_name(self.held_out), [row.kind for row in held_out.dropped])
            test = self._grouped(run, data_name(self.held_out), held_out.rows)
            prompts = {preference.prompt.conversation for preference in test}
            train = [preference for preference in rows if preference.prompt.conversation not in prompts]
            reasons += ["its prompt is held out"] * (len(rows) - len(train))
        else:
            train, test = split_held_out(rows, self.held_out_share, derive_seed(run.seed, "held_out"))
        if self.leave_out is not None:
            train, count = self.leave_out.removed_from(train, derive_seed(run.seed, "leave_out"))
            reasons += ["its prompt is in the region that is left out"] * count
        run.dropped(name, reasons)
        if not train:
            raise DataError(f"{name}: no preference is left to train on. Give more prompts, or leave out fewer")
        return (shuffled(train, derive_seed(run.seed, "shuffle")) if self.control == "shuffled" else train), test

    def _grouped(self, run: Run, path: str, rows: list[Preference]) -> list[Preference]:
        """Return the preferences of each group of raters where there are `groups`, and record votes and pairs that belong to none."""
        if self.groups is None:
            return rows
        grouped, reasons = by_group(rows, self.groups.read(), self.groups.prior)
        run.dropped(f"the votes of {path}", reasons)
        return grouped

    def _normalise(self, run: Run, model: ScalarModel, task: RewardTask) -> float:
        """Set gain and bias so that the heads' sum has mean 0 and deviation 1 on reference samples; return its raw deviation."""
        if self.reference_samples is not None:
            _, trees = reference_samples(run, self.reference_samples, LearnedReward(model))
        else:
            trees = [prompt.tree for prompt in taking_turns(task.judged, attrgetter("source_name"))[:REFERENCE_PROMPTS]]
        model.normalisation, spread = normalisation_of(LearnedReward(model).score_trees(trees), len(task.heads) // len(task.dimensions))
        return spread

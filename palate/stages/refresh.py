"""Stage `refresh`: train a reward model on new judgments, and compare it with the one before."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table

from palate.config.artifacts import model_at
from palate.config.types import Amount, Count, Input, RewardInput, Share
from palate.core import ConfigError, DataError, Preference, Tracker, derive_seed
from palate.data.data_sources import DataInput, check_unweighted, data_name, read_data, require_each_once
from palate.data.formats import ColumnTypes, Recognised, read_preferences
from palate.data.jsonl import write_rows
from palate.data.splits import split_held_out
from palate.distributed.windows import windows
from palate.evaluation.active_learning import DrawnMembers, ask_next
from palate.evaluation.label_curve import measured_curve
from palate.evaluation.reward_change import (
    PAGE,
    ComparedPredictions,
    ComparedScores,
    RefreshResults,
    raw_scores,
    rescored_pairs,
    reward_change,
    terminal_lines,
    write_change,
)
from palate.evaluation.reward_model import card_of, normalisation_of, reference_samples
from palate.models.precision import DType, dtype_of
from palate.models.scalar import ScalarModel, load_scalar
from palate.models.shared_layers import sharing_out
from palate.objectives.bradley_terry import BradleyTerry
from palate.rewards.learned import LearnedReward
from palate.runs.console import Console
from palate.runs.run import Run
from palate.training.comparisons import JudgedPrompt, judged_prompts
from palate.training.fit import epochs_of, fit
from palate.training.learner import Learner
from palate.training.model_io import keep_model, token_limit
from palate.training.optimizer import AdamW
from palate.training.reward_batches import RewardBatches
from palate.training.template_remarks import tell_of

Figures = Mapping[str, Any]

RESCORED = "rescored.jsonl"
"""The file of the new judgments' pairs with the probabilities of both models."""


@dataclass(frozen=True)
class Refresh:
    """Train a reward model further, and show what that changed.

    Attributes:
        reward: the reward model to start from, or the run that trained it; it is not changed.
        preferences: the new judgments.
        columns: what the columns of the files of preferences hold where their names do not say it: a type, and columns by name.
        replay: the judgments of earlier rounds that the model was trained on; some are mixed in, so that the model does not forget them.
        replay_share: their share of the prompts that are trained on.
        held_out: old judgments that the model was tested on, of one round or more.
        samples: completions on which scores get mean 0 and deviation 1, and on which rankings are compared.
        held_out_share: share of the new prompts that are set aside for testing.
        epochs: epochs over the data.
        prompts_per_step: prompts, with all their completions, per optimizer step.
        tokens_per_microbatch: tokens in a forward pass, at most.
        objective: the loss.
        optimizer: the optimizer and its schedule.
        dtype: the type that forward and backward pass compute in; auto is bfloat16 on GPUs, else float32. Weights stay float32.
        curve: shares of the new prompts on which further models are trained, to estimate the gain from more labels. Give two or more, or
            none for no curve.
    """

    reward: RewardInput
    preferences: DataInput
    samples: DataInput
    columns: ColumnTypes = field(default_factory=Recognised)
    replay: tuple[Input, ...] = ()
    replay_share: Share = 0.5
    held_out: tuple[Input, ...] = ()
    held_out_share: float = 0.2
    epochs: Amount = 1.0
    prompts_per_step: Count = 4
    tokens_per_microbatch: Count = 1024
    objective: BradleyTerry = field(default_factory=BradleyTerry)
    optimizer: AdamW = field(default_factory=lambda: AdamW(lr=3e-4))
    dtype: DType = "auto"
    curve: tuple[Share, ...] = (0.0625, 0.25)

    def check(self) -> None:
        """Raise ConfigError when a share is out of range, or old judgments are named twice."""
        check_unweighted(self.preferences, self.samples)
        require_each_once("replay", self.replay)
        require_each_once("held_out", self.held_out)
        if not 0 < self.held_out_share < 1:
            raise ConfigError(f"held_out_share must lie between 0 and 1, got {self.held_out_share}: a new model needs a test")
        if not self.replay_share < 1:
            raise ConfigError(f"replay_share must be below 1, got {self.replay_share}: the model must learn something new")

    def run(self, run: Run) -> None:
        """Train and compare; save `model/` with its report card, and the comparison: `summary.json`, `refresh.html`, `rescored.jsonl`."""
        directory = model_at(self.reward)
        with sharing_out(windows(), learns=False):
            before = load_scalar(directory)
        with sharing_out(windows(), learns=True):
            model = load_scalar(directory)
        before.module.requires_grad_(requires_grad=False)
        new = self._read(run, self.preferences, "preferences.jsonl", model)
        train, test = split_held_out(new, self.held_out_share, derive_seed(run.seed, "held_out"))
        if not train:
            raise DataError(f"{data_name(self.preferences)}: a single prompt cannot be both trained and tested on. Judge more prompts")
        tests = {"new": test}
        if self.held_out:
            tests["old"] = [row for path in self.held_out for row in self._read(run, path, "held_out.jsonl", model)]
        old = self._old(run, tests, model)
        prompts, dropped, last = self._train(run, run, model, [*train, *self._replayed(run, old, train)])
        run.dropped("preferences that do not fit", dropped)
        tell_of(run, data_name(self.preferences), prompts)
        samples, trees = reference_samples(run, self.samples, LearnedReward(model))
        scores_before, scores_after = raw_scores(before, trees), raw_scores(model, trees)
        model.normalisation, spread = normalisation_of(scores_after)
        compared = {name: ComparedPredictions.of(before, model, rows) for name, rows in tests.items()}
        ranked = ComparedScores.of(scores_before, scores_after, trees)
        write_rows(run.directory / "predictions.jsonl", compared["new"].after)
        write_rows(run.directory / RESCORED, rescored_pairs(before, model, new))
        keep_model(run, model, None)
        figures = {name: comparison.summary() for name, comparison in compared.items()}
        overall = figures.get("old", figures["new"])["after"]
        card_of(overall, spread).write(run.directory / "model")

        def accuracy(tracker: Tracker, part: Sequence[Preference]) -> tuple[float, int]:
            with sharing_out(windows(), learns=True):
                further = load_scalar(directory)
            self._train(run, tracker, further, [*part, *self._replayed(run, old, part)])
            return accuracy_of(ComparedPredictions.of(before, further, test).summary())

        curve = measured_curve(run, train, self.curve, accuracy, accuracy_of(figures["new"]))
        asked_next = ask_next(run, self.preferences, lambda: DrawnMembers(model, prompts, run.seed))
        curve_figures = {} if curve is None else {"curve": {"text": curve.sentence(), "gain": asdict(curve.forecasts[0].gain)}}
        run.summary({"prompts": len(prompts), "tests": figures, "scale": ranked.summary(), "last": last, **curve_figures, **asked_next})
        Console().print(change_table(figures, ranked.summary()))
        page = reward_change(
            run, RefreshResults(self.reward, samples, compared, ranked, curve, asked_next.get("asked_next", {}).get("items", 0))
        )
        Console(soft_wrap=True, highlight=False).print(*terminal_lines(page, run.directory), sep="\n", markup=False)
        write_change(page, run.directory / PAGE)

    def _train(
        self, run: Run, tracker: Tracker, model: ScalarModel, preferences: Sequence[Preference]
    ) -> tuple[Sequence[JudgedPrompt], list[str], dict[str, float]]:
        """Train the model; return the prompts it learned from, the reasons of dropped preferences, and the last step's metrics."""
        prompts, dropped = judged_prompts(preferences, model.tokenizer, token_limit(model))
        data = RewardBatches.of(self.objective, prompts, {})
        epochs = epochs_of(run, len(data.judged), self.prompts_per_step, self.epochs, lambda k: data.judged[k].source)
        learner = Learner({"reward": model.module}, self.optimizer, epochs.steps, dtype=dtype_of(self.dtype))
        batches = data.batches(model.heads, self.tokens_per_microbatch)
        loss = data.loss(model, None, lambda: learner.steps_done / epochs.steps)
        last = fit(tracker, learner, epochs, batches, loss)
        learner.release()
        model.module.eval()
        return data.judged, dropped, last

    def _read(self, run: Run, data: DataInput, name: str, model: ScalarModel) -> list[Preference]:
        """Return the preferences on dimensions that the model has heads for.

        Raises:
            DataError: there is none.
        """
        table, path = read_data(data, name, read_preferences, None, self.columns), data_name(data)
        run.columns_left_out(path, table.further)
        known = [preference for preference in table.rows if preference.dimension in model.heads]
        unknown = [f"the model has no head {p.dimension}" for p in table.rows if p.dimension not in model.heads]
        run.dropped(path, [row.kind for row in table.dropped] + unknown)
        if not known:
            raise DataError(
                f"{path}: no preference can be used. The reward model has the heads {', '.join(model.heads)}: ask raters about these"
            )
        return known

    def _old(self, run: Run, tests: Mapping[str, Sequence[Preference]], model: ScalarModel) -> list[Preference]:
        """Return the old preferences about prompts that are not tested on."""
        if not self.replay_share:
            return []
        tested = {preference.prompt.conversation for rows in tests.values() for preference in rows}
        rounds = [p for path in self.replay for p in self._read(run, path, "preferences.jsonl", model)]
        return [p for p in rounds if p.prompt.conversation not in tested]

    def _replayed(self, run: Run, old: Sequence[Preference], train: Sequence[Preference]) -> list[Preference]:
        """Return old preferences of as many prompts as `replay_share` asks for beside those in `train`."""
        prompts = list(dict.fromkeys(p.prompt.conversation for p in old))
        wanted = round(len({p.prompt.conversation for p in train}) * self.replay_share / (1 - self.replay_share))
        chosen = set(random.Random(derive_seed(run.seed, "old")).sample(prompts, min(wanted, len(prompts))))
        return [p for p in old if p.prompt.conversation in chosen]


def accuracy_of(figures: Figures) -> tuple[float, int]:
    """Return the accuracy after training, and the number of pairs."""
    return float(figures["after"]["accuracy"]), int(figures["after"]["n"])


def change_table(tests: Mapping[str, Figures], scale: Mapping[str, float]) -> Table:
    """Return a table of what changed, for the terminal."""
    table = Table(title="The reward model before and after", box=None, title_justify="left", caption_justify="left")
    for name in ("judgments", "votes", "accuracy", "now", "change", "log loss", "calibration"):
        table.add_column(name, justify="left" if name == "judgments" else "right", no_wrap=True)
    for name, figures in tests.items():
        before, after, change = figures["before"], figures["after"], figures["change"]
        table.add_row(
            name,
            f"{after['n']:.0f}",
            f"{before['accuracy']:.3f}",
            f"{after['accuracy']:.3f}",
            f"{change['accuracy']:+.3f}" + ("" if change["se"] is None else f" +- {1.96 * change['se']:.3f}"),
            *(f"{before[figure]:.2f} to {after[figure]:.2f}" for figure in ("log_loss", "calibration_error")),
        )
    table.caption = (
        f"On the samples, the best completion changed for {scale['best_changed']:.0%} of the prompts. Scores correlate by "
        f"{scale['correlation']:.3f}. Their spread went from {scale['spread_before']:.2f} to {scale['spread_after']:.2f} logits."
    )
    return table

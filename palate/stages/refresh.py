"""Stage `refresh`: a reward model learns from new judgments, and is compared with what it was."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from palate.config.artifacts import file_at, model_at
from palate.config.types import Amount, Count, Input, Share
from palate.core import ConfigError, DataError, Preference, Tracker, derive_seed
from palate.data.formats import read_preferences
from palate.data.jsonl import write_rows
from palate.data.samples import read_samples
from palate.data.splits import split_held_out
from palate.evaluation.active_learning import ask_next
from palate.evaluation.label_curve import measured_curve
from palate.evaluation.reward_change import Compared, Ranked, raw_scores
from palate.evaluation.reward_change_page import PAGE, Refreshed, change_of, told_of, write_change
from palate.evaluation.reward_model import REFERENCE_PROMPTS, normalisation_of
from palate.models.scalar import ScalarModel, load_scalar
from palate.objectives.bradley_terry import BradleyTerry
from palate.rewards.learned import LearnedReward, ReportCard
from palate.runs.run import Run
from palate.text.spans import NO_LIMIT
from palate.training.comparisons import JudgedPrompt, judged_prompts
from palate.training.fit import epochs_of, fit
from palate.training.learner import Learner
from palate.training.optimizer import AdamW
from palate.training.reward_batches import RewardBatches

Told = Mapping[str, Any]


@dataclass(frozen=True)
class Refresh:
    """Go on training a reward model with new judgments, and show what that changed.

    Attributes:
        reward: the reward model to go on from, or the run that trained it; it stays as it is.
        preferences: the new judgments.
        replay: the judgments that it was trained on; some are mixed in, so that they are not forgotten.
        replay_share: their share of the prompts learned from.
        held_out: old judgments that it was tested on.
        samples: completions on which scores get mean 0 and deviation 1, and on which rankings are compared.
        held_out_share: share of the new prompts kept back for testing.
        epochs: passes over the data.
        prompts_per_step: prompts (with all their completions) an optimizer step.
        tokens_per_microbatch: tokens a forward pass holds at most.
        objective: the loss.
        optimizer: how the weights are moved.
        curve: shares of the new prompts that further models learn from, to tell what more labels would give; two or more, or none for no
            curve. They take their sum of the training's time.
    """

    reward: Input
    preferences: Input
    samples: Input
    replay: Input | None = None
    replay_share: Share = 0.5
    held_out: Input | None = None
    held_out_share: float = 0.2
    epochs: Amount = 1.0
    prompts_per_step: Count = 4
    tokens_per_microbatch: Count = 1024
    objective: BradleyTerry = field(default_factory=BradleyTerry)
    optimizer: AdamW = field(default_factory=lambda: AdamW(lr=3e-4))
    curve: tuple[Share, ...] = (0.0625, 0.25)

    def check(self) -> None:
        """Checks shares."""
        if not 0 < self.held_out_share < 1:
            raise ConfigError(
                f"held_out_share must lie between 0 and 1, got {self.held_out_share}: what is not tested is not known to be better"
            )
        if not self.replay_share < 1:
            raise ConfigError(f"replay_share must be below 1, got {self.replay_share}: something new must be learned")

    def run(self, run: Run) -> None:
        """Trains and compares; saves `model/` with its card, and the comparison in `summary.json` and `refresh.html`."""
        place = model_at(self.reward)
        before, model = load_scalar(place), load_scalar(place)
        before.module.requires_grad_(requires_grad=False)
        new = self._read(run, self.preferences, "preferences.jsonl", model)
        train, test = split_held_out(new, self.held_out_share, derive_seed(run.seed, "held_out"))
        if not train:
            raise DataError(f"{self.preferences}: a single prompt cannot be learned from and tested on: judge more")
        tests = {"new": test}
        if self.held_out is not None:
            tests["old"] = self._read(run, self.held_out, "held_out.jsonl", model)
        old = self._old(run, tests, model)
        judged, dropped, last = self._taught(run, run, model, [*train, *self._replayed(run, old, train)])
        run.dropped("preferences that do not fit", dropped)
        samples = read_samples(self.samples)[:REFERENCE_PROMPTS]
        trees = [LearnedReward(model).tree(prompt, completions) for prompt, completions in samples]
        then, now = (raw_scores(one, trees) for one in (before, model))
        model.normalisation, spread = normalisation_of(now)
        compared = {name: Compared.of(before, model, rows) for name, rows in tests.items()}
        ranked = Ranked.of(then, now, trees)
        write_rows(run.directory / "predictions.jsonl", compared["new"].after)
        model.save(run.directory / "model")
        measured = {name: one.told() for name, one in compared.items()}
        overall = measured.get("old", measured["new"])["after"]
        rule = max(overall["longer_wins"], 1 - overall["longer_wins"])
        ReportCard(overall["accuracy"], int(overall["n"]), spread, rule).write(run.directory / "model")

        def accuracy(tracker: Tracker, part: Sequence[Preference]) -> tuple[float, int]:
            pupil = load_scalar(place)
            self._taught(run, tracker, pupil, [*part, *self._replayed(run, old, part)])
            return accuracy_of(Compared.of(before, pupil, test).told())

        curve = measured_curve(run, train, self.curve, accuracy, accuracy_of(measured["new"]))
        asked = ask_next(run, self.preferences, model, judged)
        more = {} if curve is None else {"curve": {"told": curve.told(), "gain": asdict(curve.forecasts[0].gain)}}
        run.summary({"prompts": len(judged), "tests": measured, "scale": ranked.told(), "last": last, **more, **asked})
        Console().print(table(measured, ranked.told()))
        page = change_of(run, Refreshed(self.reward, samples, compared, ranked, curve, asked.get("asked_next", {}).get("items", 0)))
        Console(soft_wrap=True, highlight=False).print(*told_of(page, run.directory), sep="\n", markup=False)
        write_change(page, run.directory / PAGE)

    def _taught(
        self, run: Run, tracker: Tracker, model: ScalarModel, preferences: Sequence[Preference]
    ) -> tuple[Sequence[JudgedPrompt], list[str], dict[str, float]]:
        """What the model has learned from, the reasons of what did not fit, and the last step's metrics."""
        judged, dropped = judged_prompts(preferences, model.tokenizer, model.max_tokens or NO_LIMIT)
        lessons = RewardBatches.of(self.objective, judged, {})
        epochs = epochs_of(run, len(lessons.judged), self.prompts_per_step, self.epochs, lambda k: lessons.judged[k].source)
        learner = Learner({"reward": model.module}, self.optimizer, epochs.steps)
        batches = lessons.batches(model.heads, self.tokens_per_microbatch)
        last = fit(tracker, learner, epochs, batches, lessons.loss(model, None, lambda: learner.steps_done / epochs.steps), "refresh")
        model.module.eval()
        return lessons.judged, dropped, last

    def _read(self, run: Run, path: str, name: str, model: ScalarModel) -> list[Preference]:
        """Preferences about what the model has heads for.

        Raises:
            DataError: there are none.
        """
        table = read_preferences(file_at(path, name))
        known = [preference for preference in table.rows if preference.dimension in model.heads]
        strange = [f"the model has no head {p.dimension}" for p in table.rows if p.dimension not in model.heads]
        run.dropped(path, [row.kind for row in table.dropped] + strange)
        if not known:
            raise DataError(
                f"{path}: no preference can be used; the reward model has the heads {', '.join(model.heads)}: ask raters about these"
            )
        return known

    def _old(self, run: Run, tests: Mapping[str, Sequence[Preference]], model: ScalarModel) -> list[Preference]:
        """Old preferences about prompts that are not tested on."""
        if self.replay is None or not self.replay_share:
            return []
        kept = {preference.prompt.conversation for rows in tests.values() for preference in rows}
        return [p for p in self._read(run, self.replay, "preferences.jsonl", model) if p.prompt.conversation not in kept]

    def _replayed(self, run: Run, old: Sequence[Preference], train: Sequence[Preference]) -> list[Preference]:
        """Old preferences of as many prompts as the share wants beside those in `train`."""
        prompts = list(dict.fromkeys(p.prompt.conversation for p in old))
        wanted = round(len({p.prompt.conversation for p in train}) * self.replay_share / (1 - self.replay_share))
        chosen = set(random.Random(derive_seed(run.seed, "old")).sample(prompts, min(wanted, len(prompts))))
        return [p for p in old if p.prompt.conversation in chosen]


def accuracy_of(told: Told) -> tuple[float, int]:
    """Accuracy after, and the number of pairs."""
    return float(told["after"]["accuracy"]), int(told["after"]["n"])


def table(measured: Mapping[str, Told], scale: Mapping[str, float]) -> Table:
    """What changed, as a person would want to read it."""
    found = Table(title="The reward model before and after", box=None, title_justify="left", caption_justify="left")
    for name in ("judgments", "votes", "accuracy", "now", "change", "log loss", "calibration"):
        found.add_column(name, justify="left" if name == "judgments" else "right", no_wrap=True)
    for name, one in measured.items():
        then, now, change = one["before"], one["after"], one["change"]
        found.add_row(
            name,
            f"{now['n']:.0f}",
            f"{then['accuracy']:.3f}",
            f"{now['accuracy']:.3f}",
            f"{change['accuracy']:+.3f} +- {1.96 * change['se']:.3f}",
            *(f"{then[figure]:.2f} to {now[figure]:.2f}" for figure in ("log_loss", "calibration_error")),
        )
    found.caption = (
        f"On samples: another best completion for {scale['best_changed']:.0%} of the prompts; scores correlate by "
        f"{scale['correlation']:.3f}; their spread went from {scale['spread_before']:.2f} to {scale['spread_after']:.2f} logits."
    )
    return found

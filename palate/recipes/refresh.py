"""Stage `refresh`: a reward model learns from new judgments, and is compared with what it was."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from torch import Tensor

from palate.core import ConfigError, DataError, Preference, derive_seed
from palate.evaluation.intervals import paired_difference
from palate.models.scalar import ScalarModel, load_scalar
from palate.objectives.bradley_terry import BradleyTerry
from palate.recipes.comparisons import judged_prompts
from palate.recipes.config import Amount, Count, Input, Share
from palate.recipes.imitation import epochs_of
from palate.recipes.lessons import Lessons
from palate.recipes.places import NO_LIMIT, file_at, model_at
from palate.recipes.records import read_samples
from palate.recipes.reward import REFERENCE_PROMPTS, assess, keep_back, normalisation_of, predictions
from palate.rewards.learned import Card, LearnedReward
from palate.stores.formats import read_preferences
from palate.stores.jsonl import write_rows
from palate.stores.runs import Run
from palate.text.pack import Tree
from palate.training.learner import Learner
from palate.training.loop import fit
from palate.training.optimizer import AdamW

Told = Mapping[str, Any]


@dataclass(frozen=True)
class Refresh:
    """Go on training a reward model with new judgments, and show what that changed.

    Attributes:
        reward: the reward model to go on from, or the run that trained it; it stays as it is.
        preferences: the new judgments.
        old: the judgments that it was trained on; some are mixed in, so that they are not forgotten.
        old_share: their share of the prompts learned from.
        held_out: old judgments that it was tested on.
        samples: completions on which scores get mean 0 and deviation 1, and on which rankings are compared.
        held_out_share: share of the new prompts kept back for testing.
        epochs: passes over the data.
        prompts_per_step: prompts (with all their completions) an optimizer step.
        tokens_per_microbatch: tokens a forward pass holds at most.
        objective: the loss.
        optimizer: how the weights are moved.
    """

    reward: Input
    preferences: Input
    samples: Input
    old: Input | None = None
    old_share: Share = 0.5
    held_out: Input | None = None
    held_out_share: float = 0.2
    epochs: Amount = 1.0
    prompts_per_step: Count = 4
    tokens_per_microbatch: Count = 1024
    objective: BradleyTerry = field(default_factory=BradleyTerry)
    optimizer: AdamW = field(default_factory=lambda: AdamW(lr=3e-4))

    def check(self) -> None:
        """Checks shares."""
        if not 0 < self.held_out_share < 1:
            raise ConfigError(
                f"held_out_share must lie between 0 and 1, got {self.held_out_share}: what is not tested is not known to be better"
            )
        if not self.old_share < 1:
            raise ConfigError(f"old_share must be below 1, got {self.old_share}: something new must be learned")

    def run(self, run: Run) -> None:
        """Trains and compares; saves `model/` with its card, and the comparison in `summary.json`."""
        place = model_at(self.reward)
        before, model = load_scalar(place), load_scalar(place)
        before.module.requires_grad_(requires_grad=False)
        new = self._read(run, self.preferences, "preferences.jsonl", model)
        train, test = keep_back(new, self.held_out_share, derive_seed(run.seed, "held_out"))
        if not train:
            raise DataError(f"{self.preferences}: a single prompt cannot be learned from and tested on: judge more")
        tests = {"new": test}
        if self.held_out is not None:
            tests["old"] = self._read(run, self.held_out, "held_out.jsonl", model)
        limit = model.max_tokens or NO_LIMIT
        judged, dropped = judged_prompts([*train, *self._replayed(run, train, tests, model)], model.tokenizer, limit)
        run.dropped("preferences that do not fit", dropped)
        lessons = Lessons.of(self.objective, judged, {})
        epochs = epochs_of(run, len(lessons.judged), self.prompts_per_step, self.epochs, lambda k: lessons.judged[k].source)
        learner = Learner({"reward": model.module}, self.optimizer, epochs.steps)
        batches = lessons.batches(model.heads, self.tokens_per_microbatch)
        last = fit(run, learner, epochs, batches, lessons.loss(model, None, lambda: learner.steps_done / epochs.steps), "refresh")
        model.module.eval()
        samples = read_samples(self.samples)[:REFERENCE_PROMPTS]
        trees = [LearnedReward(model).tree(prompt, completions) for prompt, completions in samples]
        model.normalisation, spread = normalisation_of(raw_scores(model, trees))
        measured = {name: compared(before, model, rows) for name, rows in tests.items()}
        scale = scales(before, model, trees)
        rows = predictions(model, judged_prompts(test, model.tokenizer, limit)[0], model.heads)
        write_rows(run.directory / "predictions.jsonl", rows)
        model.save(run.directory / "model")
        overall = measured.get("old", measured["new"])["after"]
        rule = max(overall["longer_wins"], 1 - overall["longer_wins"])
        Card(overall["accuracy"], int(overall["n"]), spread, rule).write(run.directory / "model")
        run.summary({"prompts": len(lessons.judged), "tests": measured, "scale": scale, "last": last})
        Console().print(table(measured, scale))

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

    def _replayed(
        self, run: Run, train: Sequence[Preference], tests: Mapping[str, Sequence[Preference]], model: ScalarModel
    ) -> list[Preference]:
        """Old preferences of as many prompts as the share wants, none of which is tested on."""
        if self.old is None or not self.old_share:
            return []
        kept = {preference.prompt.conversation for rows in tests.values() for preference in rows}
        old = [p for p in self._read(run, self.old, "preferences.jsonl", model) if p.prompt.conversation not in kept]
        prompts = list(dict.fromkeys(p.prompt.conversation for p in old))
        wanted = round(len({p.prompt.conversation for p in train}) * self.old_share / (1 - self.old_share))
        chosen = set(random.Random(derive_seed(run.seed, "old")).sample(prompts, min(wanted, len(prompts))))
        return [p for p in old if p.prompt.conversation in chosen]


def compared(before: ScalarModel, after: ScalarModel, preferences: Sequence[Preference]) -> dict[str, Told]:
    """How both models do on the same judgments: accuracy, log loss and calibration of each, and the paired difference in accuracy."""
    judged, _ = judged_prompts(preferences, after.tokenizer, after.max_tokens or NO_LIMIT)
    rows = [predictions(model, judged, model.heads) for model in (before, after)]
    right = [np.array([agreement(row) for row in own]) for own in rows]
    change = paired_difference(right[1], right[0])
    names = ("accuracy", "se", "n", "log_loss", "calibration_error", "longer_wins")
    found = {name: {key: assess(own)["overall"][key] for key in names} for name, own in zip(("before", "after"), rows, strict=True)}
    return {**found, "change": {"accuracy": change.value, "se": change.se}}


def agreement(row: Mapping[str, float | str]) -> float:
    """The share of votes that a model's scores of a pair agree with; one half where they are equal."""
    difference, observed = float(row["chosen"]) - float(row["rejected"]), float(row["observed"])
    right = (1 + np.sign(difference)) / 2
    return float(right * observed + (1 - right) * (1 - observed))


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


def raw_scores(model: ScalarModel, trees: Sequence[Tree]) -> Tensor:
    """Scores (b, h) before gain and bias."""
    scores = LearnedReward(model).score_trees(trees)
    return (scores - scores.new_tensor(model.normalisation.bias)) / scores.new_tensor(model.normalisation.gain)


def scales(before: ScalarModel, after: ScalarModel, trees: Sequence[Tree]) -> dict[str, float]:
    """On samples: spread of raw scores, their correlation, and the share of prompts whose best completion is another."""
    then, now = (raw_scores(model, trees).sum(1).double().numpy() for model in (before, after))
    ends = np.cumsum([len(tree.branches) for tree in trees])[:-1]
    several = [(a, b) for a, b in zip(np.split(then, ends), np.split(now, ends), strict=True) if len(a) > 1]
    return {
        "spread_before": float(then.std()),
        "spread_after": float(now.std()),
        "correlation": float(np.corrcoef(then, now)[0, 1]) if then.std() and now.std() else float("nan"),
        "best_changed": float(np.mean([a.argmax() != b.argmax() for a, b in several])) if several else float("nan"),
    }

"""Stage `pair`: make preferences from a reward's scores, for iterative direct alignment."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from palate.config.types import RewardInput, Share
from palate.core import Completion, ConfigError, DataError, Preference, Prompt, derive_seed
from palate.data.data_sources import DataInput, check_unweighted, data_name, read_data
from palate.data.formats import RECOGNISED, preference_row, read_preferences
from palate.data.jsonl import write_rows
from palate.models.precision import DType
from palate.rewards.completion_scores import CompletionScorer, require_one_reward, reward_models
from palate.rewards.composition import RewardPart
from palate.rewards.learned import required_report_card
from palate.rewards.part import caveats_of
from palate.runs.run import Run
from palate.samplers.prompts import samples_at


@dataclass(frozen=True)
class Pair:
    """Pair the best with the worst of sampled completions by a reward.

    Attributes:
        samples: completions of the current policy, two or more per prompt. One path, or several sources (docs/data.md).
        reward: a reward model, or the run that trained it; a short form of `rewards` with this model alone.
        rewards: the parts of the reward by name, as in `online`: reward models, functions, rules, servers, judges, rubrics.
        missing_eos_reward: the score of a completion that was cut off.
        min_gap: prompts whose best and worst score differ by no more than this are left out.
        min_accuracy: the lowest held-out accuracy that is accepted of the reward model, as in `online`.
        min_spread: the lowest spread of its scores that is accepted, in logits.
        replay: preferences of people, or of an earlier round, that are mixed in; one path, or several sources.
        replay_share: their share of the preferences that are written.
        dtype: the type that `reward` computes in; auto is bfloat16 on GPUs, else float32.
    """

    samples: DataInput
    reward: RewardInput | None = None
    rewards: dict[str, RewardPart] = field(default_factory=dict)
    missing_eos_reward: float = -1.0
    min_gap: float = 0.0
    min_accuracy: float = 0.55
    min_spread: float = 0.05
    replay: DataInput | None = None
    replay_share: Share = 0.0
    dtype: DType = "auto"

    def check(self) -> None:
        """Raise ConfigError when only one of `replay` and `replay_share` is set, or there is not exactly one reward."""
        check_unweighted(self.samples, self.replay)
        require_one_reward("pair", self.reward, self.rewards)
        if (self.replay is None) != (self.replay_share == 0):
            raise ConfigError("replay and replay_share need each other: set both, or neither")

    def run(self, run: Run) -> None:
        """Write `preferences.jsonl`, whose sides have the tokens that were sampled; a side that was cut is marked as cut."""
        for path in reward_models(self.reward, self.rewards):
            required_report_card(run, path, self.min_accuracy, self.min_spread)
        scorer = CompletionScorer.load(run, self.reward, self.rewards, None, self.dtype)
        samples = samples_at(run, self.samples)
        prompts = [prompt for prompt, _ in samples]
        scorer.check_prompts(prompts)
        with run.progress(1, "pair") as advance:
            scores = scorer.scores(prompts, [completions for _, completions in samples]).scores
            advance(1, "scored")
        pairs = [self._pair(prompt, group, own) for (prompt, group), own in zip(samples, scores, strict=True)]
        fresh = [pair for pair in pairs if pair is not None]
        run.dropped("prompts without a clear pair", [f"best and worst are within {self.min_gap:g}"] * (len(samples) - len(fresh)))
        if not fresh:
            raise DataError(
                f"{data_name(self.samples)}: no prompt has two completions whose scores are more than {self.min_gap:g} apart. "
                "Sample more completions"
            )
        replayed = self._replayed(run, len(fresh))
        write_rows(run.directory / "preferences.jsonl", map(preference_row, [*fresh, *replayed]))
        gaps = [preference.margin for preference in fresh]
        counts = {"prompts": len(samples), "pairs": len(fresh), "replayed": len(replayed)}
        run.summary({**counts, "mean_gap": sum(gaps) / len(gaps), **caveats_of(self.rewards)})

    def _pair(self, prompt: Prompt, group: Sequence[Completion], scores: Sequence[float | None]) -> Preference | None:
        """Return the best against the worst completion; None where fewer than two are scored or the gap is too small."""
        rated = [
            (self.missing_eos_reward if completion.is_cut else score, completion)
            for completion, score in zip(group, scores, strict=True)
            if score is not None
        ]
        if len(rated) < 2:
            return None
        best, worst = max(rated, key=lambda pair: pair[0]), min(rated, key=lambda pair: pair[0])
        gap = best[0] - worst[0]
        return Preference(prompt, best[1], worst[1], margin=gap) if gap > self.min_gap else None

    def _replayed(self, run: Run, fresh: int) -> list[Preference]:
        """Return preferences drawn from `replay`; all of them where there are fewer than `replay_share` asks for."""
        if self.replay is None:
            return []
        table = read_data(self.replay, "preferences.jsonl", read_preferences, None, RECOGNISED)
        run.dropped(data_name(self.replay), [row.kind for row in table.dropped])
        count = round(fresh * self.replay_share / (1 - self.replay_share))
        return random.Random(derive_seed(run.seed, "replay")).sample(list(table.rows), min(count, len(table.rows)))

"""A run's reward: the sum of named parts, each normalised, bounded, and weighted or constrained."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from palate.config.answers import LARGEST
from palate.config.artifacts import model_at, models_at
from palate.core import Completion, ConfigError, DataError, Prompt, TrainingError
from palate.data.judge_names import figure_name
from palate.distributed.ranks import from_writer
from palate.models.adapters import LoRA, four_bit_of
from palate.objectives.advantages import RewardParts
from palate.rewards.batch import PartScorer, ScoringBatch, ScoringContext
from palate.rewards.ensemble_members import has_adapters, share_bases
from palate.rewards.function import FunctionReward
from palate.rewards.judge import JudgeReward
from palate.rewards.learned import LearnedReward
from palate.rewards.model import Member, ModelReward
from palate.rewards.pairwise_judge import PairwiseReward
from palate.rewards.remote import HTTPReward
from palate.rewards.rubric import RubricReward
from palate.rewards.rules import RulesReward
from palate.rewards.written_rules import WrittenRules
from palate.runs.run import Run
from palate.text.pack import Tree

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

RewardPart = ModelReward | FunctionReward | RulesReward | HTTPReward | JudgeReward | PairwiseReward | RubricReward | WrittenRules
"""The parts that a reward can have."""


@dataclass(frozen=True)
class Failure:
    """A completion, by its number in the batch, that a part could not score, and the reason. `part` is its name in the settings."""

    part: str
    completion: int
    reason: str


@dataclass(frozen=True)
class Scores:
    """The scores of b completions and the rewards that follow from them.

    Attributes:
        table: (b,) scores as the parts gave them, by `part` or `part/head`, and their details; NaN where scoring failed. Here and below a
            part whose judge has no report card is called `part_uncalibrated`.
        parts: (b,) scores by part, heads added up, after normalisation and bounds, before weights.
        multipliers: multiplier of each part with a constraint, as used in this batch.
        added: what each part that counts adds to the rewards.
        failures: each failed score with its reason.
    """

    table: Mapping[str, Tensor]
    parts: Mapping[str, Tensor]
    multipliers: Mapping[str, float]
    added: RewardParts
    failures: tuple[Failure, ...]

    @property
    def rewards(self) -> Tensor:
        """Return (b,) all parts together; NaN where a part that counts failed."""
        return self.added.added.sum(1)

    def metrics(self) -> dict[str, float]:
        """Return means over what was scored, and the share that was not; a part without any score has no mean."""
        failed = {name: float(part.isnan().float().mean()) for name, part in self.parts.items()}
        return {
            **{f"{metric_of(name)}/mean": float(column.nanmean()) for name, column in self.table.items() if not column.isnan().all()},
            **{f"part_{name}/mean": float(part.nanmean()) for name, part in self.parts.items() if failed[name] < 1},
            **{f"unscored_{name}/share": share for name, share in failed.items()},
            **{f"multiplier_{name}/value": value for name, value in self.multipliers.items()},
        }


@dataclass(frozen=True)
class Moments:
    """Count, mean and summed squared deviation of all scores so far."""

    count: float = 0.0
    mean: float = 0.0
    squares: float = 0.0

    def joined(self, scores: Tensor) -> Moments:
        """Return the moments with these scores added, except those that are NaN. Source: Chan et al. 1979."""
        values = scores[~scores.isnan()].double()
        if not len(values):
            return self
        mean, count = float(values.mean()), self.count + len(values)
        gap = mean - self.mean
        squares = self.squares + float((values - mean).square().sum()) + gap**2 * self.count * len(values) / count
        return Moments(count, self.mean + gap * len(values) / count, squares)

    def standardised(self, scores: Tensor) -> Tensor:
        """Return the scores less the mean, divided by the standard deviation; scores that hardly differ are only centred."""
        deviation = math.sqrt(self.squares / self.count) if self.count else 0.0
        return (scores - self.mean) / (deviation if deviation > 1e-6 * max(1.0, abs(self.mean)) else 1.0)


class Composition:
    """The loaded parts of a reward, with what they learned: statistics of scores and multipliers of constraints."""

    def __init__(
        self, parts: Mapping[str, RewardPart], scorers: Mapping[str, PartScorer], models: Mapping[str, LearnedReward], max_failed: float
    ) -> None:
        self._parts, self._scorers, self._max_failed = parts, scorers, max_failed
        self._titles = {name: figure_name(name, is_calibrated=part.is_calibrated) for name, part in parts.items()}
        self.models = models
        """Reward models by the path that names them."""
        self._moments = {name: Moments() for name, part in parts.items() if part.normalise}
        self._multipliers = {name: part.constraint.init_multiplier for name, part in parts.items() if part.constraint is not None}

    @staticmethod
    def load(
        parts: Mapping[str, RewardPart],
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        max_failed: float = 0.05,
        adapters: LoRA | None = None,
        run: Run | None = None,
    ) -> Composition:
        """Load the parts: their models are read and their processes started.

        Args:
            parts: by name.
            tokenizer: the policy's; None where completions come from elsewhere, and then texts are scored.
            max_failed: largest share of a batch's completions that a part may fail to score.
            adapters: those that the policy trains. With them a reward model that was kept as an adapter stays beside its base, which is
                quantised as the policy's. Without them it is merged into its base.
            run: the run that scores; judges keep their answers in its directory.

        Raises:
            ConfigError: there is no part, a name has a slash, a function cannot be imported, or a model lacks the heads asked for.
        """
        if not parts:
            raise ConfigError("rewards: needs at least one part, such as `taste: {kind: model, model: $reward}`")
        if bad := [name for name in parts if not name or "/" in name]:
            raise ConfigError(f"rewards: a part's name must be a word without slashes, got {bad[0]!r}; heads are written part/head")
        if not 0 <= max_failed < 1:
            raise ConfigError(f"max_failed must be a share from 0 to below 1, got {max_failed}")
        models: dict[str, LearnedReward] = {}

        @cache
        def members(path: str) -> tuple[Member, ...]:
            each = models_at(path)
            merges = adapters is None and not has_adapters(each)
            load = partial(LearnedReward.load, sampled_with=tokenizer, merge_adapter=merges, four_bit=four_bit_of(adapters))
            loaded = {one: load(model_at(one)) for one in each}
            if adapters is None:
                share_bases(loaded.values())
            models.update(loaded)
            return tuple(member for one, reward in loaded.items() for member in Member.all_of(one, reward))

        scorers = {name: part.open(ScoringContext(name, tokenizer, members, run)) for name, part in parts.items()}
        return Composition(parts, scorers, models, max_failed)

    def score(
        self,
        prompts: Sequence[Prompt],
        groups: Sequence[Sequence[Completion]],
        trees: Sequence[Tree] | None = None,
        *,
        update: bool = True,
    ) -> Scores:
        """Score all completions, groups in order.

        Args:
            prompts: one per group.
            groups: completions of each prompt; `stop` says which were cut off.
            trees: their tokens as sampled, one per prompt. Without them a model with the policy's tokenizer reads the completions' ids.
            update: whether statistics and multipliers learn from this batch.

        Raises:
            DataError: there is no completion.
            TrainingError: a part that counts failed on more than the share `max_failed`, or a reward is too large to be learned from.
        """
        batch = ScoringBatch(tuple(prompts), tuple(map(tuple, groups)), None if trees is None else tuple(trees))
        if not len(batch):
            raise DataError("nothing to score: there is no completion")
        table: dict[str, Tensor] = {}
        raw: dict[str, Tensor] = {}
        failures: list[Failure] = []
        for name, scorer in self._scorers.items():
            # Models are shared out over ranks. The others may be servers or functions with a state of their own, so one rank asks them.
            # Written rules may have both, and see to it themselves.
            is_shared = isinstance(self._parts[name], ModelReward | WrittenRules)
            outcome = scorer.score(batch) if is_shared else from_writer(partial(scorer.score, batch))
            title = self._titles[name]
            table |= {f"{title}/{head}".rstrip("/"): column for head, column in (*outcome.heads.items(), *outcome.details.items())}
            raw[name] = torch.stack(list(outcome.heads.values())).sum(0)
            failures += [Failure(name, row, reason) for row, reason in sorted(outcome.reasons.items())]
            if self._parts[name].counts:
                self._require_few(name, list(outcome.reasons.values()), len(batch))
        require_own_names(table)
        moments = {name: before.joined(raw[name]) for name, before in self._moments.items()}
        shaped = {name: self._shaped(name, raw[name], moments) for name in raw}
        parts = {self._titles[name]: column for name, column in shaped.items()}
        multipliers = {self._titles[name]: value for name, value in self._multipliers.items()}
        scores = Scores(table, parts, multipliers, self._added(shaped), tuple(failures))
        self._require_small(scores.rewards, shaped)
        if update:
            self._moments = moments
            self._multipliers |= {name: self._next_multiplier(name, shaped[name]) for name in self._multipliers}
        return scores

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Check that the prompts have what the parts read of them, before anything is sampled. Raises DataError."""
        for name, part in self._parts.items():
            part.check_prompts(prompts, f"rewards.{name}")

    def state(self) -> dict[str, float]:
        """Return what was learned so far, for a checkpoint."""
        moments = {f"{name}.{word}": value for name, part in self._moments.items() for word, value in vars(part).items()}
        return {**moments, **{f"{name}.multiplier": value for name, value in self._multipliers.items()}}

    def restore(self, state: Mapping[str, float]) -> None:
        """Continue from a checkpoint's numbers.

        Raises:
            TrainingError: they belong to other parts.
        """
        if set(state) != set(self.state()):
            held, wanted = (", ".join(sorted(names)) or "nothing" for names in (state, self.state()))
            raise TrainingError(f"the checkpoint holds {held} of the rewards; these parts need {wanted}")
        self._moments = {name: Moments(*(state[f"{name}.{word}"] for word in ("count", "mean", "squares"))) for name in self._moments}
        self._multipliers = {name: state[f"{name}.multiplier"] for name in self._multipliers}

    def close(self) -> None:
        """End the parts' processes; those of a composition that is garbage-collected end as well."""
        for scorer in self._scorers.values():
            scorer.close()

    def _shaped(self, name: str, raw: Tensor, moments: Mapping[str, Moments]) -> Tensor:
        part = self._parts[name]
        scores = moments[name].standardised(raw) if name in moments else raw
        return scores if part.floor is None and part.ceiling is None else scores.clamp(part.floor, part.ceiling)

    def _added(self, shaped: Mapping[str, Tensor]) -> RewardParts:
        """Return what each part adds by the formula of `Constraint`; one of weight 0 is left out, so that its failures do not count."""
        first = next(iter(shaped.values()))
        weights, columns = [], [first.new_empty(len(first), 0)]
        for name, part in self._parts.items():
            if part.counts:
                weights.append(part.weight if part.constraint is None else self._multipliers[name])
                level = 0.0 if part.constraint is None else part.constraint.min_score
                columns.append((weights[-1] * (shaped[name] - level))[:, None])
        scale = 1 + sum(self._multipliers.values())
        return RewardParts(torch.cat(columns, 1) / scale, first.new_tensor(weights).abs().expand(len(first), -1) / scale)

    def _next_multiplier(self, name: str, scores: Tensor) -> float:
        constraint, scored = self._parts[name].constraint, scores[~scores.isnan()]
        if constraint is None or not len(scored):
            return self._multipliers[name]
        return constraint.next_multiplier(self._multipliers[name], float(scored.mean()))

    def _require_small(self, rewards: Tensor, shaped: Mapping[str, Tensor]) -> None:
        """Refuse rewards that are infinite or too large: the loss would not be a number."""
        if not bool((rewards.abs() > LARGEST).any()):
            return
        sizes = {name: float(part[~part.isnan()].abs().max()) for name, part in shaped.items() if not part.isnan().all()}
        parts = ", ".join(f"rewards.{name} up to {size:g} with weight {self._parts[name].weight:g}" for name, size in sizes.items())
        raise TrainingError(f"a reward is beyond {LARGEST:g}, too large to learn from: {parts}. Bound or scale these parts")

    def _require_few(self, name: str, reasons: Sequence[str], count: int) -> None:
        if len(reasons) > self._max_failed * count:
            first = "; ".join(dict.fromkeys(reasons[:20]))[:600]
            raise TrainingError(
                f"rewards.{name} could not score {len(reasons)} of {count} completions ({len(reasons) / count:.0%}; max_failed allows "
                f"{self._max_failed:.0%}): {first}. Repair the part, or raise max_failed"
            )


def metric_of(column: str) -> str:
    """Return what metrics call a column of the table of scores."""
    return f"score_{column.replace('/', '_')}"


def require_own_names(columns: Iterable[str]) -> None:
    """Refuse parts of which two figures would have one name, so that one of them would be lost.

    Raises:
        ConfigError: a part is called as another one's head is.
    """
    first: dict[str, str] = {}
    for column in columns:
        earlier = first.setdefault(metric_of(column), column)
        if earlier != column:
            raise ConfigError(
                f"rewards: {earlier} and {column} would both be recorded as {metric_of(column)}. Rename a part, or a dimension"
            )

"""What a user could write: a loss, a rule of advantage, a reward, a stage, a rater, a reader of rows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import logsigmoid

from palate.core import Judgment
from palate.models.adapters import LoRA
from palate.models.causal import CausalPolicy
from palate.objectives.advantages import Episodes, TokenCredit
from palate.objectives.direct.pair_logps import NO_NEEDS, Need, PairLogps, PairSide, pair_sums
from palate.objectives.reduce import Sums
from palate.raters.rater import Answered, Ask
from palate.runs.run import Run
from palate.samplers.local import LocalSampler
from palate.samplers.sampler import UpdatableSampler
from palate.stages.online.rollout_settings import RolloutSettings


@dataclass(frozen=True)
class Centred:
    """Reward minus the mean of the batch, times a factor."""

    factor: float = 1.0
    needs_values: ClassVar[bool] = False
    needs_siblings: ClassVar[bool] = False

    def __call__(self, episodes: Episodes) -> TokenCredit:
        centred = self.factor * (episodes.rewards - episodes.rewards.nanmean())
        return TokenCredit(centred[episodes.completion].nan_to_num(), None, episodes.mask)


@dataclass(frozen=True)
class Steep:
    """DPO with a steeper logistic."""

    beta: float = 0.1
    is_unpaired: ClassVar[bool] = False
    needs_reference: ClassVar[bool] = True
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def losses(self, pairs: PairLogps) -> Tensor:
        """The loss of each pair as if chosen were certainly better."""
        return -logsigmoid(2 * self.beta * pairs.difference)

    def reward(self, side: PairSide) -> Tensor:
        """The reward that metrics show."""
        return self.beta * side.log_ratio

    def __call__(self, pairs: PairLogps) -> Sums:
        return pair_sums(self, pairs, {"steepness": pairs.difference.abs().detach()})


@dataclass(frozen=True)
class Shortest:
    """Raters who all prefer the shorter text."""

    name: str = "ruler"

    def check(self, raters_per_comparison: int, dimensions: Sequence[str], completions: int = 2) -> None:
        """Accept every question."""

    def answers(
        self, run: Run, asks: Sequence[Ask], raters_per_comparison: int, rng: random.Random
    ) -> tuple[list[Answered], dict[str, object]]:
        """Rank by length."""
        answered: list[Answered] = []
        for comparison, dimension in asks:
            order = sorted(range(len(comparison.completions)), key=lambda k: len(comparison.completions[k].text))
            judgment = Judgment(comparison.id, self.name, tuple((k,) for k in order), dimension)
            answered.append(((comparison, dimension), [judgment]))
        return answered, {"ruler": len(answered)}


@dataclass(frozen=True)
class Counted:
    """Count the letters of a text."""

    text: str = "abc"

    def check(self) -> None:
        """Accept every text."""

    def run(self, run: Run) -> None:
        """Write the number."""
        run.summary({"letters": len(self.text), "seed": run.seed})


@dataclass(frozen=True, kw_only=True)
class OwnRollouts(RolloutSettings):
    """Draws as the learner's process does, and remembers the samplers that were opened."""

    extra: int = 0
    correction: None = None
    opened: ClassVar[list[UpdatableSampler]] = []

    def check(self, adapters: LoRA | None) -> None:
        """Accept every machine."""

    def open(self, policy: CausalPolicy, run: Run) -> UpdatableSampler:
        """The local sampler."""
        self.opened.append(LocalSampler(policy))
        return self.opened[-1]

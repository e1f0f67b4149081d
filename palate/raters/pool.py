"""Simulated raters of stage `collect`: a crew that looks at a gold function through its own biases."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from palate.config.functions import load_function
from palate.config.types import Share
from palate.core import Comparison, Judgment, derive_seed
from palate.raters.simulated import OVERALL, RaterPool, SimulatedRater, oracle_accuracy
from palate.runs.run import Run

CEILING_SAMPLE = 2000
Ask = tuple[Comparison, str]
"""A comparison and the dimension asked about."""
Answered = tuple[Ask, list[Judgment]]


@dataclass(frozen=True)
class Simulated:
    """A crew of simulated raters.

    Attributes:
        gold: import path of the function whose scores they look at, say package.module:function.
        pool: who they are.
        repeat_share: share of questions that one rater more answers: with two or more the agreement is known.
    """

    gold: str
    kind: Literal["simulated"] = "simulated"
    pool: RaterPool = field(default_factory=RaterPool)
    repeat_share: Share = 0.15

    def answers(
        self, run: Run, asks: Sequence[Ask], raters_per_comparison: int, rng: random.Random
    ) -> tuple[list[Answered], dict[str, object]]:
        """What they say, and for the summary the best that anyone could do in predicting one of them, by dimension."""
        raters = self.pool.sample_raters(load_function(self.gold), derive_seed(run.seed, "crowd"))
        answers: list[Answered] = []
        with run.progress(len(asks), "collect") as advance:
            for comparison, dimension in asks:
                chosen = rng.sample(raters, min(raters_per_comparison + (rng.random() < self.repeat_share), len(raters)))
                orders = [rng.choice(((0, 1), (1, 0))) for _ in chosen]
                judged = [rater.judge(comparison, dimension, order, run.seed) for rater, order in zip(chosen, orders, strict=True)]
                answers.append(((comparison, dimension), judged))
                advance(1)
        names = dict.fromkeys((*(dimension for _, dimension in asks), OVERALL))
        heard = {name: [ask for ask in asks if name in (ask[1], OVERALL)] for name in names}
        return answers, {"ceilings": {name: _ceiling(raters, some) for name, some in heard.items()}}


def _ceiling(raters: Sequence[SimulatedRater], asks: Sequence[Ask]) -> float:
    """The best accuracy that anyone could reach in predicting a random rater, over (at most 2,000 of) the questions."""
    # Drawn, not every k-th: questions about the same pair follow one another, and a stride that they divide hears one dimension only.
    some = random.Random(0).sample(asks, min(CEILING_SAMPLE, len(asks)))
    return sum(oracle_accuracy(raters, comparison, dimension) for comparison, dimension in some) / len(some)

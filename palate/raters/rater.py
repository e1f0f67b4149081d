"""The questions of stage `collect`, and the protocol of those who answer them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

from palate.core import Comparison, ConfigError, Judgment
from palate.data.exclusions import excluded_now
from palate.runs.run import Run

Ask = tuple[Comparison, str]
"""A comparison and the dimension asked about."""

Answered = tuple[Ask, list[Judgment]]
"""A question with all judgments of it."""


class Rater(Protocol):
    """Who answers the questions of stage `collect`: a member of its setting `from`, such as people or simulated raters."""

    def check(self, raters_per_comparison: int, dimensions: Sequence[str], completions: int = 2) -> None:
        """Raise ConfigError when a question about so many completions cannot get answers from so many raters on one of these dimensions."""
        ...

    def answers(
        self, run: Run, asks: Sequence[Ask], raters_per_comparison: int, rng: random.Random
    ) -> tuple[list[Answered], dict[str, object]]:
        """Return the questions that were answered, in order, and entries for the run's summary.

        Args:
            run: the run of the stage.
            asks: the questions.
            raters_per_comparison: how many raters answer each question.
            rng: for what is drawn at random, such as the order of the two sides.
        """
        ...


def without_excluded(answers: Sequence[Answered]) -> list[Answered]:
    """Return the answers without those of raters whom the stage that runs now leaves out, and without questions that have no other."""
    excluded = excluded_now()
    kept = [(ask, [judgment for judgment in judgments if not excluded.has_rater(judgment.rater)]) for ask, judgments in answers]
    return [(ask, judgments) for ask, judgments in kept if judgments] if excluded else list(answers)


def refuse_rankings(who: str, completions: int) -> None:
    """Raise ConfigError when raters who compare pairs would see more completions at once.

    Args:
        who: the raters, as in `from: {kind: people}`.
        completions: how many completions a question is about.
    """
    if completions > 2:
        raise ConfigError(
            f"completions_per_comparison is {completions}, and from: {who} answers questions about pairs. Set it to 2: collect compares "
            "all pairs of a prompt, and a ranking follows from them. Or use from: judge, or from: hybrid, whose people compare pairs. "
            "People rank on the pages of `palate label`"
        )

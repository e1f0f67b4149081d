"""Judgments as numbers: how much of an answer, of a rater and of a question is for the comparison's first completion."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from palate.agreement import pair_answer
from palate.core import Judgment, is_anonymous


def answers_by_rater(judgments: Sequence[Judgment]) -> list[tuple[str, list[Judgment]]]:
    """Return the judgments of a question by rater. Those of raters without a name stay apart: nobody knows whether they are one person."""
    by_rater: dict[str, list[Judgment]] = defaultdict(list)
    for number, judgment in enumerate(judgments):
        by_rater[f"{number}:" if is_anonymous(judgment.rater) else f":{judgment.rater}"].append(judgment)
    return [(own[0].rater, own) for own in by_rater.values()]


def first_share(judgment: Judgment, first: int = 0, second: int = 1) -> float:
    """Return the probability that completion `first` is better than `second`, whatever order was shown; without one 1, 0, or 0.5."""
    probability = judgment.first_probability(first, second)
    return 1 - pair_answer(judgment, first, second) / 2 if probability is None else probability


def rater_share(judgments: Sequence[Judgment], first: int = 0, second: int = 1) -> float:
    """Return the mean of a rater's own answers to a question, as `first_share`."""
    return math.fsum(first_share(judgment, first, second) for judgment in judgments) / len(judgments)


def vote_of(share: float) -> float:
    """Return the side that a share favours as a vote: 1, 0, or 0.5 for neither."""
    return 0.5 if math.isclose(share, 0.5, abs_tol=1e-9) else float(share > 0.5)


def question_share(judgments: Sequence[Judgment]) -> float:
    """Return the mean over raters of each rater's own mean, as `first_share`."""
    shares = [rater_share(own) for _, own in answers_by_rater(judgments)]
    return math.fsum(shares) / len(shares)

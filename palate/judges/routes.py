"""Which questions go to people and which to a judge: how good the judge is on questions that both answered, and the reasons for a route."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from palate.agreement.estimates import Estimate, from_normal
from palate.raters.answer_shares import first_share, vote_of
from palate.raters.rater import Answered, Ask

Key = tuple[str, str]
"""A question: the comparison's id and the dimension."""

MIN_CALIBRATION = 50
"""With people's answers to fewer questions of a dimension nobody can say how good the judge is there, and it is not believed."""

JUDGE = "judge"
"""The route of a question that the judge answers."""

URGENT = ("assigned", "not as good", "abstained", "disputed", "uncertain")
"""Why a question goes to people, the most urgent first: within a budget they get these first."""

JUDGE_CAN = ("disputed", "uncertain")
"""Reasons for which the judge's answer stands where the budget does not pay for people."""


@dataclass(frozen=True, slots=True)
class JudgeComparison:
    """How far a judge agrees with people on one dimension, beside how far two people agree, on the same questions.

    Attributes:
        judge: the judge's agreement with a person: 1 for the same side, 0 for the other, one half where one of them sees a tie.
        people: the same for two people.
        difference: judge less people, paired by question.
        questions: number of questions that the judge and two people answered.
    """

    judge: Estimate
    people: Estimate
    difference: Estimate
    questions: int

    def is_as_good(self, margin: float) -> bool:
        """Whether the judge agrees with a person as two people do, up to `margin`, with 97.5 % certainty; never on few questions."""
        return self.questions >= MIN_CALIBRATION and self.difference.low >= -margin


def compare_with_people(people: Sequence[Answered], judge: Mapping[Key, float]) -> JudgeComparison | None:
    """Compare a judge with people, all on one dimension; None where no question has answers of two people and of the judge.

    Intervals are clustered by prompt, because the pairs of a prompt are alike.

    Args:
        people: questions with the judgments of people.
        judge: the judge's share for the first completion, by the key of the question.
    """
    with_judge: list[float] = []
    with_people: list[float] = []
    prompts: list[str] = []
    for ask, judgments in people:
        votes = [vote_of(first_share(judgment)) for judgment in judgments if not judgment.is_decision]
        if len(votes) < 2 or key_of(ask) not in judge:
            continue
        verdict = vote_of(judge[key_of(ask)])
        with_judge.append(float(np.mean([1 - abs(verdict - vote) for vote in votes])))
        with_people.append(float(np.mean([1 - abs(one - other) for one, other in combinations(votes, 2)])))
        prompts.append(ask[0].prompt.id)
    if not prompts:
        return None
    judge_values, people_values = np.array(with_judge), np.array(with_people)
    parts = (judge_values, people_values, judge_values - people_values)
    judge_agreement, people_agreement, difference = (clustered(values, prompts) for values in parts)
    return JudgeComparison(judge_agreement, people_agreement, difference, len(prompts))


def clustered(values: np.ndarray, clusters: Sequence[str]) -> Estimate:
    """Return the mean of values (n,) with an error clustered by `clusters` (n,); the error of a single cluster is not known."""
    _, numbers = np.unique(clusters, return_inverse=True)
    centre = float(values.mean())
    parts = np.bincount(numbers, values - centre)
    groups = parts.size
    se = float(np.sqrt((parts**2).sum() * groups / (groups - 1)) / values.size) if groups > 1 else float("nan")
    return from_normal(centre, se, groups)


def key_of(ask: Ask) -> Key:
    """Return what tells a question from others: comparison and dimension."""
    return ask[0].id, ask[1]


def share_routes(people: float, keys: Sequence[Key], shares: Mapping[Key, float]) -> dict[Key, str]:
    """Return the routes of questions of which people answer a fixed share, those first of which the judge is least sure.

    Args:
        people: their share; with 1 all questions are assigned to them.
        keys: the questions.
        shares: the judge's probability for the first completion; where it abstained it is not sure at all.
    """
    if people == 1:
        return dict.fromkeys(keys, "assigned")
    unsure = sorted(keys, key=lambda key: abs(shares.get(key, 0.5) - 0.5))[: round(people * len(keys))]
    return dict.fromkeys(keys, JUDGE) | dict.fromkeys(unsure, "uncertain")


def most_urgent(routes: Mapping[Key, str], shares: Mapping[Key, float]) -> list[Key]:
    """Return the questions for people, the most urgent first; among equals those of which the judge is least sure."""
    asked = [key for key, route in routes.items() if route != JUDGE]
    return sorted(asked, key=lambda key: (URGENT.index(routes[key]), abs(shares.get(key, 0.5) - 0.5)))

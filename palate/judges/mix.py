"""What a mix of judges and people bought: questions, answers, hours and money by source, and how often the labels are right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge

from palate.agreement.estimates import Estimate
from palate.config.functions import load_gold
from palate.config.types import Amount, Count
from palate.core import ConfigError, Gold
from palate.judges.routes import JudgeComparison, clustered, key_of
from palate.raters.answer_shares import question_share, vote_of
from palate.raters.people import People
from palate.raters.rater import Answered, Ask
from palate.raters.simulated import OVERALL, Simulated


@dataclass(frozen=True, kw_only=True)
class PeopleBudget:
    """What people's answers cost, and how much of that there is.

    Attributes:
        labels: most answers of people.
        cost: most money, of people and judges together.
        hours: most hours of people's work.
        cost_per_label: price of an answer of a person, in the currency of the judge's prices.
        seconds_per_label: seconds that a person takes for an answer.
    """

    labels: Count | None = None
    cost: Amount | None = None
    hours: Amount | None = None
    cost_per_label: Annotated[float, Ge(0)] = 0.0
    seconds_per_label: Amount = 30.0

    def __post_init__(self) -> None:
        """Check that what is limited has a price."""
        if self.cost is not None and not self.cost_per_label:
            raise ConfigError("budget.cost limits money, and cost_per_label says that people are free. Give the price of an answer")

    def labels_left(self, given: int, judge_cost: float) -> float:
        """Return how many more answers of people the budget pays for, after `given` answers; infinite without a limit."""
        limits = [float("inf")]
        if self.labels is not None:
            limits.append(self.labels)
        if self.cost is not None:
            limits.append((self.cost - judge_cost) / self.cost_per_label)
        if self.hours is not None:
            limits.append(self.hours * 3600 / self.seconds_per_label)
        return max(min(limits) - given, 0.0)


@dataclass(frozen=True, slots=True)
class Mix:
    """Who answered what.

    Attributes:
        answers: the questions with the judgments that make their labels.
        routes: rows of `routes.jsonl`, one per question that was asked.
        compared: judge and people by dimension, on questions that both answered.
        believed: whether the judge is believed, by dimension.
    """

    answers: Sequence[Answered]
    routes: Sequence[Mapping[str, str]]
    compared: Mapping[str, JudgeComparison | None]
    believed: Mapping[str, bool]


def mix_summary(
    mix: Mix, people: People | Simulated, budget: PeopleBudget, figures: Mapping[str, Any], judge_cost: float
) -> dict[str, object]:
    """Return the figures of the mix, with accuracies where the people are simulated and the truth is known."""
    gold = load_gold(people.gold) if isinstance(people, Simulated) else None
    by = {(row["comparison"], row["dimension"]): row["by"] for row in mix.routes}
    sources = {name: [one for one in mix.answers if by[key_of(one[0])] == name] for name in ("people", "judge")}
    labels = sum(len(judgments) for _, judgments in sources["people"])
    seconds = [judgment.seconds for _, judgments in sources["people"] for judgment in judgments]
    worked = sum(budget.seconds_per_label if own is None else own for own in seconds)
    people_cost = labels * budget.cost_per_label
    read, written = (sum(_tokens(figures.get(name), which) for name in ("judge", "second")) for which in ("tokens_in", "tokens_out"))
    given = {
        "people": {"labels": labels, "hours": worked / 3600, **_bought(sources["people"], gold, people_cost)},
        "judge": {
            "labels": sum(len(judgments) for _, judgments in sources["judge"]),
            "tokens": read + written,
            "tokens_out": written,
            **_bought(sources["judge"], gold, judge_cost),
        },
    }
    return {
        "sources": {name: {"questions": len(own), **given[name]} for name, own in sources.items()},
        "routes": dict(Counter(row["route"] for row in mix.routes)),
        "unanswered": sum(row["by"] == "nobody" for row in mix.routes),
        "all": _bought(mix.answers, gold, people_cost + judge_cost),
        "dimensions": {d: _compared(one, is_believed=mix.believed.get(d, False)) for d, one in mix.compared.items()},
    }


def _bought(answers: Sequence[Answered], gold: Gold | None, cost: float) -> dict[str, object]:
    """Return the cost of labels, how often they are on the side of the gold, and right labels per unit of money."""
    accuracy = None if gold is None else gold_accuracy(answers, gold)
    if accuracy is None:
        return {"cost": cost}
    right = {"right_per_cost": accuracy.value * len(answers) / cost} if cost else {}
    return {"cost": cost, "accuracy": interval_of(accuracy), **right}


def gold_accuracy(answers: Sequence[Answered], gold: Gold) -> Estimate | None:
    """Return the share of labels on the side of the gold, clustered by prompt; a label without a side counts one half.

    Questions on which the gold sees no difference are left out; None where there are no others.
    """
    right, prompts = [], []
    for ask, judgments in answers:
        gap = gold_gap(ask, gold)
        if abs(gap) > 1e-9:
            right.append(1 - abs(vote_of(question_share(judgments)) - float(gap > 0)))
            prompts.append(ask[0].prompt.id)
    return clustered(np.array(right), prompts) if right else None


def gold_gap(ask: Ask, gold: Gold) -> float:
    """Return the gold of the first completion less that of the second, on the dimension asked about; overall is the mean of all."""
    comparison, dimension = ask
    prompt = comparison.prompt
    first, second = (gold(prompt.text, one.text, **prompt.fields) for one in comparison.completions)
    if dimension == OVERALL or dimension not in first:
        return sum(first.values()) / len(first) - sum(second.values()) / len(second)
    return first[dimension] - second[dimension]


def interval_of(estimate: Estimate) -> dict[str, float | None]:
    """Return an estimate as JSON values; what is not known is null."""
    numbers = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return {**{name: None if np.isnan(value) else value for name, value in numbers.items()}, "n": estimate.n}


def _compared(one: JudgeComparison | None, *, is_believed: bool) -> dict[str, object]:
    if one is None:
        return {"believed": False, "questions": 0}
    return {
        "believed": is_believed,
        "questions": one.questions,
        "judge": interval_of(one.judge),
        "people": interval_of(one.people),
        "difference": interval_of(one.difference),
    }


def _tokens(figures: Any, which: str) -> int:
    return int(figures.get(which, 0)) if isinstance(figures, Mapping) else 0

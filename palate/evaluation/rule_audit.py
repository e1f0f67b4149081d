"""How often completions break each written rule, with intervals, and who says so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from palate.agreement.estimates import Estimate, json_values
from palate.config.artifacts import model_at
from palate.core import Completion, DataError, Prompt
from palate.evaluation.classifier_limits import classifier_limits
from palate.evaluation.intervals import mean, share
from palate.rewards.batch import ScoringBatch
from palate.rewards.learned import MAX_UNSCORED, LearnedReward
from palate.rewards.rule_check import RuleCheck
from palate.runs.run import Run

COLUMN = "rules"
"""The key of a completion's row that holds the probabilities that it breaks the rules, by the rule's id."""


@dataclass(frozen=True)
class RuleBreaches:
    """How often one rule was broken.

    Attributes:
        checked_by: who says so: a program, a classifier or a judge, by name.
        broken: share of completions that more likely break the rule than not, with Wilson's interval.
        probability: mean probability that it is broken, with its interval. A classifier that is well calibrated is right in this mean.
        unknown: completions of which nobody knows.
        limit: why the test of the classifier does not show that it finds breaches of this rule; None where it does, or where a program or
            a judge checks the rule.
    """

    checked_by: str
    broken: Estimate
    probability: Estimate
    unknown: int
    limit: str | None = None

    def plain(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        plain: dict[str, Any] = json_values(asdict(self))
        return plain


def audited(
    run: Run, check: RuleCheck, completions: Sequence[tuple[Prompt, Completion]], rows: Sequence[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Check completions against the rules; add the probabilities to their rows, and return how often each rule was broken, by its id.

    Raises:
        DataError: more than half of the completions could not be checked by a classifier or a judge, or a program failed on one.
    """
    opened = check.open("rules", lambda path: LearnedReward.load(model_at(path)), run)
    try:
        batch = ScoringBatch(tuple(prompt for prompt, _ in completions), tuple((completion,) for _, completion in completions))
        found = opened.breaches(batch)
    finally:
        opened.close()
    learned = [rule.id for rule, source in zip(opened.rules, opened.sources, strict=True) if source == "classifier"]
    limits = {} if check.model is None else classifier_limits(check.model, learned)
    for rule_id, reason in limits.items():
        run.say(f"rule {rule_id}: {reason}")
    summary = {}
    for k, (rule, source) in enumerate(zip(opened.rules, opened.sources, strict=True)):
        reasons = [reason for (_, number), reason in found.reasons.items() if number == k]
        if reasons and (source == "program" or len(reasons) > MAX_UNSCORED * len(batch)):
            raise DataError(f"{reasons[0]}. {len(reasons)} of {len(batch)} completions could not be checked against rule {rule.id!r}")
        if reasons:
            run.dropped(f"completions not checked against rule {rule.id!r}", [reason.split(":")[0] for reason in reasons])
        column = found.table[:, k].double().numpy()
        for row, value in zip(rows, column.tolist(), strict=True):
            row.setdefault(COLUMN, {})[rule.id] = None if math.isnan(value) else value
        found_of_rule = breaches_of(opened.checkers[rule.id], column[~np.isnan(column)], len(reasons))
        summary[rule.id] = replace(found_of_rule, limit=limits.get(rule.id)).plain()
    return summary


def breaches_of(checked_by: str, probabilities: np.ndarray[Any, np.dtype[np.float64]], unknown: int) -> RuleBreaches:
    """Return how often a rule was broken, from the probabilities (n,) of completions."""
    broken = share(float((probabilities > 0.5).sum()), probabilities.size)
    is_certain = set(np.unique(probabilities)) <= {0.0, 1.0}
    return RuleBreaches(checked_by, broken, broken if is_certain else mean(probabilities), unknown)

"""The rows of the report's section on written rules: how often each model broke each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from palate.evaluation.intervals import Estimate


@dataclass(frozen=True, slots=True)
class RuleBreachRow:
    """How often models broke one rule, as one checker says.

    Attributes:
        rule: the rule's id.
        checked_by: the program, the classifier or the judge that says so.
        broken: share of completions that break it, by variant.
        versus_reference: paired differences to the reference, by variant; without variants that answered no common prompt.
        limit: why the test of the classifier does not show that it finds breaches of this rule; "" where there is nothing to say.
    """

    rule: str
    checked_by: str
    broken: Mapping[str, Estimate]
    versus_reference: Mapping[str, Estimate]
    limit: str = ""

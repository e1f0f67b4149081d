"""What the report says is wrong, and what it looked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FAULTS: Mapping[str, str] = {
    "length": "much longer answers",
    "exploit": "a trick that a probe counts",
    "sycophancy": "agreement with wrong opinions",
    "over_refusal": "refused harmless requests",
    "compliance": "answers to what must be refused",
    "forgotten": "a forgotten skill",
    "bias": "a group that is served worse",
    "leaked_prompts": "prompts of training among the held-out ones",
    "repeated_split": "held-out judgments of prompts that were to be trained on",
    "blind": "a reward model blind to a dimension",
    "empty_answers": "a reward for answers without content",
    "side": "a taste of raters for one side",
}
"""The faults that a report looks for, in words."""


@dataclass(frozen=True, slots=True)
class FoundFault:
    """A fault that the figures show. `about` names the model, or what else has the fault."""

    fault: str
    about: str
    sentence: str


@dataclass(frozen=True, slots=True)
class FaultCheck:
    """What a report looked for.

    Attributes:
        found: the faults that are shown.
        looked_for: names of the faults for which there are figures.
        not_measured: names of the others.
        tests: comparisons that were made. All together have a false alarm in at most 5 % of reports without a fault.
    """

    found: tuple[FoundFault, ...]
    looked_for: tuple[str, ...]
    not_measured: tuple[str, ...]
    tests: int

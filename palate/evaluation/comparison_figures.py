"""The figures of a comparison of policies, as a run of `compare` writes them and its pages read them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from palate.agreement.estimates import json_values
from palate.agreement.paired_rates import PairedRate
from palate.agreement.win_rates import PolicyStrength
from palate.core import ConfigError
from palate.data.files import read_json

SourceKind = Literal["people", "simulated", "judge", "reward", "gold"]

FIGURES = "summary.json"

_ESTIMATE = {"value", "se", "low", "high", "n"}


@dataclass(frozen=True, slots=True)
class ComparedPolicy:
    """A policy of a comparison.

    Attributes:
        name: its name.
        answered: prompts that it answered, of all that were asked or given.
        cut: share of its compared answers whose token budget ran out; None where nobody knows.
        empty: number of its compared answers that are empty.
        characters: mean number of characters of its compared answers.
        left_out: rows of its answers that cannot be used, by reason.
    """

    name: str
    answered: int
    cut: float | None
    empty: int
    characters: float
    left_out: dict[str, int]


@dataclass(frozen=True, slots=True)
class GroupRate:
    """The win rate of a pair of policies on one group of prompts; `group` is "" for prompts that belong to none."""

    group: str
    rate: PairedRate


@dataclass(frozen=True, slots=True)
class VerdictSource:
    """Who compared the answers, and what they say.

    Attributes:
        kind: what it is.
        name: what pages call it.
        caveats: what a reader must know about it, such as that nobody measured the judge.
        leads: whether its figures may stand in a headline alone.
        asked: questions that were asked.
        unanswered: questions without an answer.
        raters: number of raters who answered.
        rates: the win rate of each pair of policies, by dimension.
        strengths: the policies by strength, by dimension; () for two policies.
        by_group: the win rates on each group of prompts; () where prompts are not split.
    """

    kind: SourceKind
    name: str
    caveats: tuple[str, ...]
    leads: bool
    asked: int
    unanswered: int
    raters: int
    rates: tuple[PairedRate, ...]
    strengths: tuple[PolicyStrength, ...]
    by_group: tuple[GroupRate, ...] = ()


@dataclass(frozen=True, slots=True)
class PolicyComparison:
    """A comparison of policies.

    Attributes:
        policies: the policies.
        prompts: prompts that all of them answered.
        answer_pairs: pairs of answers that two policies have, over all these prompts.
        difference: the distance of a win rate from one half that `PairedRate.needed` is about.
        sources: who compared, in the order in which they may lead.
        split_by: the column by whose values prompts are split into groups; "" where they are not.
    """

    policies: tuple[ComparedPolicy, ...]
    prompts: int
    answer_pairs: int
    difference: float
    sources: tuple[VerdictSource, ...]
    split_by: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the figures as JSON values; what is not known is null."""
        values: dict[str, Any] = json_values(asdict(self))
        return values

    @property
    def leading(self) -> VerdictSource | None:
        """The source of the headline; None where no source may stand alone."""
        return next((source for source in self.sources if source.leads and source.rates), None)


def read_comparison(directory: Path) -> PolicyComparison:
    """Read what a run of `compare` found.

    Raises:
        ConfigError: it is not such a run, or another version of Palate wrote it.
    """
    path = directory / FIGURES
    try:
        return TypeAdapter(PolicyComparison).validate_python(_restored(read_json(path) if path.is_file() else None))
    except ValidationError as error:
        raise ConfigError(f"{directory} holds no figures of a comparison. Give a run of `compare` that this version finished") from error


def _restored(value: Any) -> Any:
    """Return JSON values with NaN for each null of an estimate."""
    if isinstance(value, Mapping):
        inner = {name: _restored(one) for name, one in value.items()}
        return {name: math.nan if one is None else one for name, one in inner.items()} if set(inner) == _ESTIMATE else inner
    return [_restored(one) for one in value] if isinstance(value, list) else value

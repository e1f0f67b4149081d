"""The file of a gate: limits on what an evaluate run measured, one number each."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from palate.config.read import read_config
from palate.config.settings import nearest, raise_collected, read_yaml
from palate.core import ConfigError
from palate.evaluation.run_metrics import FAMILIES, FIGURES, WINS

Missing = Literal["fail", "allow"]


@dataclass(frozen=True)
class GateLimit:
    """One limit.

    Attributes:
        metric: what is limited (docs/gates.md lists the names).
        by: which number must keep the limit: the estimate, or the low or the high end of its 95 % interval.
        of: the candidate's own value, its change from the baseline in pairs of prompts, or that change divided by the baseline's mean.
        at_least: the lowest number allowed.
        at_most: the highest number allowed. A limit has one of the two.
        missing: whether the gate fails where the metric is not known; none takes the file's word for it.
    """

    metric: str
    by: Literal["estimate", "low", "high"]
    of: Literal["value", "change", "relative"] = "value"
    at_least: float | None = None
    at_most: float | None = None
    missing: Missing | None = None

    def __post_init__(self) -> None:
        """Check that there is one bound, and that the metric can be known."""
        if (self.at_least is None) == (self.at_most is None):
            raise ConfigError(f"the limit on {self.metric} needs one number: give it at_least or at_most, and not both")
        if not math.isfinite(self.bound):
            raise ConfigError(f"the limit on {self.metric} is {self.bound}. Give a finite number")
        if self.metric in WINS and self.of != "value":
            raise ConfigError(f"{self.metric} compares both runs already. Leave out of: {self.of}")
        if self.metric not in {*FIGURES, *WINS} and not any(self.metric.startswith(name) and self.metric != name for name in FAMILIES):
            raise ConfigError(unknown_metric(self.metric, ()))

    @property
    def bound(self) -> float:
        """The number of the limit."""
        bound = self.at_least if self.at_least is not None else self.at_most
        assert bound is not None
        return bound

    @property
    def needs_baseline(self) -> bool:
        """Whether the limit compares two runs."""
        return self.of != "value" or self.metric in WINS

    @property
    def words(self) -> str:
        """The limit as a sentence has it: "change of gold, low end: at least 0.02"."""
        what = {"value": self.metric, "change": f"change of {self.metric}", "relative": f"relative change of {self.metric}"}[self.of]
        end = "" if self.by == "estimate" else f", {self.by} end"
        return f"{what}{end}: {'at least' if self.at_least is not None else 'at most'} {self.bound:g}"


@dataclass(frozen=True)
class Gate:
    """The limits of a file.

    Attributes:
        limits: the limits, all of which must hold.
        name: what reports call the gate.
        missing: whether the gate fails where a metric is not known, or lets it pass.
    """

    limits: tuple[GateLimit, ...] = ()
    name: str = "gate"
    missing: Missing = "fail"

    def __post_init__(self) -> None:
        """Check that there is a limit, that none stands twice, and that a number can keep them all."""
        if not self.limits:
            raise ConfigError("the gate names no metric, so every model would pass. Give it limits")
        words = [limit.words for limit in self.limits]
        if twice := [text for text in words if words.count(text) > 1]:
            raise ConfigError(f"the limit `{twice[0]}` stands twice. Take one of them out")
        for low in (one for one in self.limits if one.at_least is not None):
            for high in self.limits:
                is_same = (low.metric, low.by, low.of) == (high.metric, high.by, high.of)
                if is_same and high.at_most is not None and low.bound > high.at_most:
                    raise ConfigError(f"no number keeps both `{low.words}` and `{high.words}`. Change one of them")

    def fails_without(self, limit: GateLimit) -> bool:
        """Whether the gate fails where the limit's metric is not known."""
        return (limit.missing or self.missing) == "fail"


def read_gate(path: Path) -> Gate:
    """Read a gate from its YAML file.

    Raises:
        ConfigError: the file is not YAML, a name is unknown, a limit has not one number, or there is no limit.
    """
    return read_config(Gate, read_yaml(path))


def unknown_metric(name: str, measured: Iterable[str]) -> str:
    """Return what to say about a name that no metric has.

    Args:
        name: the name.
        measured: names of metrics that are known beside those that every run may have.
    """
    known = [*measured, *FIGURES, *WINS, *(f"{family}NAME" for family in FAMILIES)]
    return f"there is no metric {name!r}. {nearest(name, dict.fromkeys(known))}"


def refuse_unknown(gate: Gate, measured: Iterable[str]) -> None:
    """Refuse names that only a slip can explain: the runs measured this family of metrics, and none of this name.

    Raises:
        ConfigError: there is such a name. It would be unknown in every run, and could pass where `missing` is `allow`.
    """
    names = list(measured)
    errors = []
    for limit in gate.limits:
        family = next((one for one in FAMILIES if limit.metric.startswith(one)), None)
        if family is not None and limit.metric not in names and (own := [name for name in names if name.startswith(family)]):
            errors.append(f"neither run measured {limit.metric!r}. {nearest(limit.metric, own)}")
    raise_collected(errors)

"""Choosing one of a prompt's completions from stored scores by dimension: by weights, by the worst dimension, above floors; and the front.

No model is asked again, so weights can change as often as one likes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from palate.config.settings import nearest
from palate.core import ConfigError, DataError
from palate.evaluation.intervals import Estimate, mean

Floats = NDArray[np.float64]
Rule = Literal["weighted", "max_min"]


@dataclass(frozen=True)
class ScoreTable:
    """Scores of completions by dimension.

    Attributes:
        dimensions: names of the d dimensions.
        groups: raw scores (n, d) of each prompt's completions.
    """

    dimensions: tuple[str, ...]
    groups: tuple[Floats, ...]

    @cached_property
    def deviation(self) -> Floats:
        """(d,) the standard deviation of each dimension over all completions."""
        return np.asarray(np.concatenate(self.groups).std(0))

    @cached_property
    def standardised(self) -> tuple[Floats, ...]:
        """The scores less their mean, divided by their standard deviation over all completions, so that weights of dimensions compare.

        A dimension that does not vary is 0.
        """
        centre = np.concatenate(self.groups).mean(0)
        scale = np.where(self.deviation > 0, self.deviation, np.inf)
        return tuple((group - centre) / scale for group in self.groups)

    def column(self, name: str, option: str) -> int:
        """Return the number of a dimension. Raises ConfigError where there is none of that name; `option` is what named it."""
        if name not in self.dimensions:
            raise ConfigError(f"{option}: the scores have no dimension {name!r}. {nearest(name, self.dimensions)}")
        return self.dimensions.index(name)


@dataclass(frozen=True)
class Choice:
    """How one of a prompt's completions is chosen.

    Among the completions that reach all floors, `weighted` takes the highest weighted sum of standardised scores, and `max_min` the highest
    of the lowest standardised scores. A floor on one dimension and a weight on another are a lexicographic order: first safe enough, then
    as helpful as possible.

    Attributes:
        weights: by dimension; one that is not named, or has weight 0, does not count. For max_min they say only which dimensions count.
        floors: lowest score by dimension, in the units of the file.
        rule: weighted or max_min.
    """

    weights: Mapping[str, float]
    floors: Mapping[str, float] = field(default_factory=dict)
    rule: Rule = "weighted"

    def __post_init__(self) -> None:
        """Check the numbers."""
        if any(not 0 <= weight < math.inf for weight in self.weights.values()) or not sum(self.weights.values()) > 0:
            raise ConfigError(f"weights must be 0 or more, finite, and not all 0; got {dict(self.weights)}")
        if any(not math.isfinite(floor) for floor in self.floors.values()):
            raise ConfigError(f"floors must be finite numbers, got {dict(self.floors)}")

    def value(self, scores: Floats, columns: Mapping[str, int]) -> Floats:
        """Return what is maximised (n,), from standardised scores (n, d)."""
        if self.rule == "max_min":
            return np.asarray(scores[:, [columns[name] for name, weight in self.weights.items() if weight > 0]].min(1))
        return np.asarray(sum(weight * scores[:, columns[name]] for name, weight in self.weights.items()))


@dataclass(frozen=True)
class Chosen:
    """The completion of each prompt that was chosen, by number, and the number of prompts of which none reaches the floors."""

    numbers: tuple[int, ...]
    below: int


def choose(table: ScoreTable, choice: Choice) -> Chosen:
    """Return the best completion of each prompt.

    Where no completion of a prompt reaches the floors, the one with the smallest shortfall is chosen, in standard deviations of its worst
    dimension. Of equally good ones the one with the highest sum over all dimensions is chosen, and then the first.

    Raises:
        ConfigError: a weight or a floor names no dimension.
        DataError: no completion of any prompt reaches the floors.
    """
    columns = {name: table.column(name, "weights") for name in choice.weights}
    floors = {table.column(name, "floors"): floor for name, floor in choice.floors.items()}
    numbers, below = [], 0
    for raw, scores in zip(table.groups, table.standardised, strict=True):
        short = np.zeros(len(raw))
        for column, floor in floors.items():
            short = np.maximum(short, (floor - raw[:, column]) / (table.deviation[column] or 1.0))
        below += bool(short.min() > 0)
        best = np.flatnonzero(short == short.min() if short.min() > 0 else short == 0)
        value = choice.value(scores[best], columns)
        tied = best[value >= value.max() - 1e-12]
        numbers.append(int(tied[np.argmax(scores[tied].sum(1))]))
    if below == len(table.groups):
        raise DataError(f"no completion reaches the floors {_reached(table, choice.floors)}. Lower a floor, or sample more completions.")
    return Chosen(tuple(numbers), below)


def _reached(table: ScoreTable, floors: Mapping[str, float]) -> str:
    """Return each floor with the highest score of its dimension."""
    highest = np.concatenate(table.groups).max(0)
    return ", ".join(
        f"{name}={floor:g} (the highest score is {highest[table.dimensions.index(name)]:.3g})" for name, floor in floors.items()
    )


@dataclass(frozen=True)
class FrontPoint:
    """What a choice gives.

    Attributes:
        name: how it was chosen.
        weights: the weights, by dimension.
        means: mean score of what was chosen, by dimension.
        gold: mean gold of what was chosen, by name; empty without gold.
        moved: share of the prompts with another completion than at the point before; 0 for the first.
        below: prompts of which no completion reaches the floors.
    """

    name: str
    weights: Mapping[str, float]
    means: Mapping[str, Estimate]
    gold: Mapping[str, Estimate]
    moved: float
    below: int


GoldColumns = tuple[Mapping[str, Floats], ...]
"""The gold scores (n,) of each prompt's completions, by name."""


def front(
    table: ScoreTable, dimensions: tuple[str, str], points: int, floors: Mapping[str, float], gold: GoldColumns = ()
) -> list[FrontPoint]:
    """Return what weights from (0, 1) to (1, 0) on two dimensions give, in `points` even steps, and last the choice by the worst of both.

    Along the weights the mean of the first dimension never falls and that of the second never rises: each choice maximises a sum, so a
    completion that is worse on the dimension whose weight rises cannot replace another.

    Raises:
        ConfigError: as `choose`; or the dimensions are one, or there are fewer than two points.
        DataError: as `choose`.
    """
    first, second = dimensions
    if first == second or points < 2:
        raise ConfigError(f"a front needs two dimensions and two points or more, got {first}, {second} and {points}")
    steps = [k / (points - 1) for k in range(points)]
    choices = [(f"{step:.2f}", Choice({first: step, second: 1 - step}, floors)) for step in steps]
    choices.append(("max-min", Choice({first: 1.0, second: 1.0}, floors, "max_min")))
    found: list[FrontPoint] = []
    before: Sequence[int] | None = None
    for name, choice in choices:
        chosen = choose(table, choice)
        moved = 0.0 if before is None else float(np.mean([a != b for a, b in zip(before, chosen.numbers, strict=True)]))
        found.append(point(table, name, choice, chosen, gold, moved))
        before = chosen.numbers
    return found


def point(table: ScoreTable, name: str, choice: Choice, chosen: Chosen, gold: GoldColumns = (), moved: float = 0.0) -> FrontPoint:
    """Return the means of what was chosen."""
    picked = np.stack([group[k] for group, k in zip(table.groups, chosen.numbers, strict=True)])
    means = {dimension: mean(picked[:, k]) for k, dimension in enumerate(table.dimensions)}
    golds = {key: mean([one[key][k] for one, k in zip(gold, chosen.numbers, strict=True)]) for key in (gold[0] if gold else ())}
    return FrontPoint(name, choice.weights, means, golds, moved, chosen.below)


def everything(table: ScoreTable, name: str, gold: GoldColumns = ()) -> FrontPoint:
    """Return the means over all completions of each prompt: what a policy gives without any choice."""
    means = {dimension: mean([group[:, k].mean() for group in table.groups]) for k, dimension in enumerate(table.dimensions)}
    golds = {key: mean([one[key].mean() for one in gold]) for key in (gold[0] if gold else ())}
    return FrontPoint(name, {}, means, golds, 0.0, 0)

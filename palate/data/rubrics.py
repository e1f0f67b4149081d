"""Rubrics: the criteria that a completion of a prompt is graded by, and the score that follows from the grades. No torch."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

from palate.config.answers import Score
from palate.config.settings import nearest
from palate.data import cells
from palate.data.cells import Columns, InvalidRow

TEXTS = ("text", "criterion", "description")
WEIGHTS = ("weight", "points")
IDS = ("id", "title", "name")
KEYS = (*IDS, *TEXTS, *WEIGHTS, "dimension", "tags")
"""Names in a criterion. HealthBench has `criterion`, `points` and `tags`; Rubrics as Rewards has `title`, `description` and `weight`."""

AXIS = "axis:"
"""How the tag of a HealthBench criterion begins that names its dimension."""

LONGEST_ID = 200
GradeWord = Literal["met", "unmet", "unsure"]
"""What a person says of a criterion. Who is unsure gives no grade."""

GRADE_WORDS: tuple[GradeWord, ...] = get_args(GradeWord)

SHOWN = 12
"""Faults and places that a message names, at most."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """One yes-or-no question about a completion.

    Attributes:
        id: names it within its rubric.
        text: what is true of a completion that meets it.
        weight: what meeting it counts; below 0 for what a completion should not do.
        dimension: what it is about; "" if nobody says.
    """

    id: str
    text: str
    weight: float
    dimension: str = ""


@dataclass(frozen=True, slots=True)
class Rubric:
    """The criteria of a prompt. At least one has a positive weight."""

    criteria: tuple[Criterion, ...]

    def score(self, grades: Mapping[str, Score]) -> Score:
        """Return `sum of weight x grade / sum of positive weights`, clipped to [0, 1], or the reason why there is no score.

        A grade is 1 for a criterion that is met, 0 for one that is not, or the probability that it is met. One missing grade leaves the
        score unknown: without it the sum would be that of another rubric. Source: Arora et al. 2025 (HealthBench), which clips only the
        mean over prompts.

        Args:
            grades: by the criterion's id, a number or the reason why there is none.
        """
        missing = [(c.id, grade) for c in self.criteria if isinstance(grade := grades.get(c.id, "was not graded"), str)]
        if missing:
            first, reason = missing[0]
            return f"{len(missing)} of {len(self.criteria)} criteria have no grade: {first}: {reason}"
        total = math.fsum(c.weight * float(grades[c.id]) for c in self.criteria)
        return min(1.0, max(0.0, total / self.best))

    @property
    def question(self) -> list[list[str]]:
        """What raters are asked: id and text of each criterion. Weights are not part of it."""
        return [[criterion.id, criterion.text] for criterion in self.criteria]

    @property
    def best(self) -> float:
        """The sum of the positive weights: what a completion reaches that does all it should and nothing that it should not."""
        return math.fsum(c.weight for c in self.criteria if c.weight > 0)

    @property
    def dimensions(self) -> dict[str, Rubric]:
        """The criteria of each dimension as a rubric of their own. A dimension without a positive weight has no score and is left out."""
        names = dict.fromkeys(c.dimension for c in self.criteria if c.dimension)
        parts = {name: Rubric(tuple(c for c in self.criteria if c.dimension == name)) for name in names}
        return {name: part for name, part in parts.items() if part.best > 0}


def rubric_of(value: object, known: Collection[str] | None = None) -> Rubric:
    """Return the rubric in a cell: a list of objects, or the JSON text of one. Criteria without an id are numbered from 1.

    Args:
        value: the cell.
        known: the dimensions that criteria may have; None allows any.

    Raises:
        InvalidRow: it cannot be used; the reason names every fault.
    """
    entries = cells.sequence(value, "rubric")
    if not entries:
        raise InvalidRow("`rubric` is empty")
    faults: list[str] = []
    ids: list[str] = []
    criteria = [_criterion(entry, number, known, faults, ids) for number, entry in enumerate(entries, start=1)]
    read = [criterion for criterion in criteria if criterion is not None]
    faults += [f"id {name!r} stands {ids.count(name)} times" for name in dict.fromkeys(ids) if ids.count(name) > 1]
    if len(read) == len(entries) and not any(criterion.weight > 0 for criterion in read):
        faults.append("no weight is above 0, so that the best score would be 0")
    if faults:
        more = f"; and {len(faults) - SHOWN} more faults" if len(faults) > SHOWN else ""
        raise InvalidRow("; ".join(faults[:SHOWN]) + more)
    return Rubric(tuple(read))


def _criterion(entry: object, number: int, known: Collection[str] | None, faults: list[str], ids: list[str]) -> Criterion | None:
    """Return the criterion, or None after its faults were added to `faults`; its id is added to `ids` in both cases."""
    place, before = f"criterion {number}", len(faults)
    row: Columns = {}
    identity, text, weight, dimension = str(number), "", 1.0, ""
    with noted(faults, f"{place}: "):
        row = {name: value for name, value in cells.mapping(entry, "criterion").items() if value is not None}
    if len(faults) > before:
        return None
    faults += [f"{place}: there is no {name!r}. {nearest(name, KEYS)}" for name in row if name not in KEYS]
    with noted(faults, f"{place}: "):
        identity = _identity(row, number)
        ids.append(identity)
    with noted(faults, f"{place}: "):
        text = cells.filled(row[_needed(row, TEXTS)], "text")
    with noted(faults, f"{place}: "):
        weight = _weight(row[_needed(row, WEIGHTS)])
    with noted(faults, f"{place}: "):
        dimension = _dimension(row, known)
    return Criterion(identity, text, weight, dimension) if len(faults) == before else None


@contextmanager
def noted(faults: list[str], place: str) -> Iterator[None]:
    """A context in which an InvalidRow does not end the reading: its reason joins `faults`, after `place`."""
    try:
        yield
    except InvalidRow as error:
        faults.append(f"{place}{error.reason}")


def _only(row: Columns, names: Sequence[str]) -> str | None:
    given = [name for name in names if name in row]
    if len(given) > 1:
        raise InvalidRow(f"has {' and '.join(map(repr, given))}, which mean the same; give one")
    return given[0] if given else None


def _needed(row: Columns, names: Sequence[str]) -> str:
    name = _only(row, names)
    if name is None:
        raise InvalidRow(f"has no {names[0]}")
    return name


def _identity(row: Columns, number: int) -> str:
    name = _only(row, IDS)
    identity = str(number) if name is None else cells.name(row[name], name).strip()
    if len(identity) > LONGEST_ID or not identity.isprintable():
        raise InvalidRow(f"`{name}` must be one line of up to {LONGEST_ID} characters: {cells.quoted(identity)}")
    return identity


def _weight(value: object) -> float:
    weight = cells.number(value, "weight")
    if weight == 0:
        raise InvalidRow("`weight` is 0, so that the criterion would count nothing; leave it out")
    return weight


def _dimension(row: Columns, known: Collection[str] | None) -> str:
    tags = [cells.text(tag, "tags") for tag in cells.sequence(row.get("tags", ()), "tags")]
    axes = [tag.removeprefix(AXIS) for tag in tags if tag.startswith(AXIS)]
    dimension = cells.name(row["dimension"], "dimension") if "dimension" in row else "".join(axes[:1])
    if known is not None and dimension and dimension not in known:
        raise InvalidRow(f"there is no dimension {dimension!r}. {nearest(dimension, known)}")
    return dimension

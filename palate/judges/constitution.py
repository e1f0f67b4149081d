"""Constitutions: principles that judges compare answers by, and that a model criticises and revises its own answers by.

A constitution is a YAML file. Palate's own lies beside this module and is called `default`.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, TypeVar

from palate.config.read import dump_config, read_config
from palate.config.settings import Keys, Settings, collected, nearest, raise_collected, read_yaml
from palate.config.types import Amount, InputMark
from palate.core import ConfigError
from palate.judges.revision_turns import ChatTurns, RevisionTurns

DEFAULT: Final = "default"
OWN: Final = Path(__file__).with_suffix(".yaml")
ALL_DIMENSIONS: Final = "overall"
"""The dimension about which every principle says something."""

T = TypeVar("T")

ConstitutionInput = Annotated[str, InputMark(names=(DEFAULT,))]
"""The path of a constitution file, or `default` for Palate's own."""


@dataclass(frozen=True)
class Principle:
    """One principle.

    Attributes:
        id: its name in the file, in raters' names and in reports.
        dimension: the dimension that it is about.
        text: what a judge is asked: about two answers ("Which answer is ...?"), or about one where it sees one.
        critique: what asks a model to criticise its answer.
        revision: what asks it to write the answer again.
        weight: how often it is drawn, relative to the others.
    """

    id: str
    dimension: str
    text: str
    critique: str
    revision: str
    weight: Amount = 1.0


@dataclass(frozen=True)
class RevisionExample:
    """An example that the model reads before it criticises and revises.

    Attributes:
        principle: id of the principle whose requests stand in it.
        prompt: what a user asked.
        completion: the first answer.
        critique: what is wrong with it.
        revision: the better answer.
    """

    principle: str
    prompt: str
    completion: str
    critique: str
    revision: str


@dataclass(frozen=True)
class Constitution:
    """What a constitution file says.

    Attributes:
        principles: the principles.
        name: what raters' names and reports call the constitution.
        examples: examples of critiques and revisions, in the order in which a model reads them.
        turns: how requests, critiques and revisions are written for a model.
        no_complaint: beginnings of critiques that find nothing wrong. The answer then stays as it is, and no revision is asked for.
    """

    principles: tuple[Principle, ...]
    name: str = "constitution"
    examples: tuple[RevisionExample, ...] = ()
    turns: RevisionTurns = field(default_factory=ChatTurns)
    no_complaint: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """A digest of all that the constitution says, which changes with any word of it, and not with a comment in its file."""
        said = json.dumps(dump_config(self), sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:12]

    def principle(self, principle: str) -> Principle:
        """Return the principle with an id. Raises KeyError if there is none."""
        return {each.id: each for each in self.principles}[principle]

    def draw(self, seed: int) -> Principle:
        """Return a principle drawn by the weights. The same seed draws the same one."""
        (drawn,) = random.Random(seed).choices(self.principles, [principle.weight for principle in self.principles])
        return drawn

    def about(self, dimension: str) -> tuple[Principle, ...]:
        """Return the principles of a dimension; `overall` has them all. Raises ConfigError if there is none."""
        own = tuple(principle for principle in self.principles if dimension in (principle.dimension, ALL_DIMENSIONS))
        if not own:
            known = ", ".join(self.dimensions)
            raise ConfigError(f"from.principles: no principle of {self.name} is about {dimension}; there are {known}. Change dimensions")
        return own

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The dimensions of the principles, in the order of the file."""
        return tuple(dict.fromkeys(principle.dimension for principle in self.principles))


def load_constitution(path: str | Path = DEFAULT, dimensions: Collection[str] = ()) -> Constitution:
    """Return the constitution in a YAML file, or Palate's own for `default`.

    Args:
        path: the file.
        dimensions: the dimensions that principles may have; () takes any.

    Raises:
        ConfigError: the file cannot be read, or something in it is wrong: an unknown key, a missing or empty text, an id given twice, or
            a dimension or an example's principle that does not exist. One message holds all faults, each with file, line and remedy.
    """
    settings = read_yaml(OWN if path == DEFAULT else Path(path))
    errors: list[str] = []
    with collected(errors):
        constitution = read_config(Constitution, settings)
    errors += _faults(settings, dimensions)
    raise_collected(errors)
    return constitution


def known_constitution(path: str | None) -> Constitution | None:
    """Return the constitution in a file; None without one, or where an earlier stage has yet to write it. Raises as `load_constitution`."""
    return load_constitution(path) if path is not None and (path == DEFAULT or Path(path).is_file()) else None


def drawn_by_weight(pool: Sequence[tuple[T, float]], count: int, rng: random.Random) -> list[T]:
    """Return `count` different members of a pool of members with weights, drawn one after the other by their weights."""
    left, drawn = list(pool), list[T]()
    while len(drawn) < count:
        drawn.append(left.pop(rng.choices(range(len(left)), [weight for _, weight in left])[0])[0])
    return drawn


def _faults(settings: Settings, dimensions: Collection[str]) -> Iterator[str]:
    """Yield what is wrong with a constitution whose keys and types may be right, each fault with its place."""
    principles = list(_entries(settings, "principles"))
    if settings.values.get("principles") == []:
        yield f"{settings.place(('principles',))}: there are no principles. Write at least one."
    first: dict[str, Keys] = {}
    for keys, principle in principles:
        name = str(principle.get("id"))
        if name in first:
            yield f"{settings.place((*keys, 'id'))}: the id {name!r} is given twice (first at {settings.place(first[name])}). Rename one."
        first.setdefault(name, (*keys, "id"))
        if re.search(r"[\s#@]", name):
            yield f"{settings.place((*keys, 'id'))}: the id {name!r} stands in raters' names. Write it without spaces, # and @."
        dimension = principle.get("dimension")
        if dimensions and isinstance(dimension, str) and dimension not in dimensions:
            yield f"{settings.place((*keys, 'dimension'))}: there is no dimension {dimension!r} here. {nearest(dimension, dimensions)}"
    for keys, example in _entries(settings, "examples"):
        name = str(example.get("principle"))
        if "principle" in example and name not in first:
            yield f"{settings.place((*keys, 'principle'))}: there is no principle {name!r}. {nearest(name, first)}"
    for keys, entry in [*principles, *_entries(settings, "examples")]:
        for key, value in entry.items():
            if isinstance(value, str) and not value.strip():
                yield f"{settings.place((*keys, str(key)))}: {key} is empty. Write its text."


def _entries(settings: Settings, name: str) -> Iterator[tuple[Keys, Mapping[str, object]]]:
    """Yield the keys and the values of each mapping in a list of the file."""
    listed = settings.values.get(name)
    for number, entry in enumerate(listed if isinstance(listed, list) else []):
        if isinstance(entry, Mapping):
            yield (name, str(number)), entry

"""Raw settings with the place each was written: a YAML file's lines, or a word of the command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

from palate.core import ConfigError

Way = tuple[str, ...]
"""Names from the top of the settings down to one value."""


@dataclass(frozen=True)
class Settings:
    """Nested values and, for each, where it was written.

    Attributes:
        values: mappings, lists and scalars, as YAML gives them.
        places: way to a value -> `file:line`, or the words of the command line.
    """

    values: Mapping[str, object] = field(default_factory=dict)
    places: Mapping[Way, str] = field(default_factory=dict)

    def place(self, way: Way) -> str:
        """Where the value at `way`, or the nearest one above it, was written."""
        for length in range(len(way), -1, -1):
            if way[:length] in self.places:
                return self.places[way[:length]]
        return "settings"

    def get(self, way: Way) -> object:
        """The value at `way`; None when there is none."""
        value: object = self.values
        for name in way:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    def put(self, way: Way, value: object, place: str) -> Settings:
        """Settings with `value` at `way`, and `place` as where it was written.

        A scalar on the way is read as the `kind` of what stands there: `objective: dpo` and then
        `objective.beta=0.2` make `{kind: dpo, beta: 0.2}`.
        """
        return Settings(_put(self.values, way, value), {**self.places, way: place})


def _put(values: object, way: Way, value: object) -> dict[str, object]:
    level: dict[str, object] = {} if values is None else {"kind": values}
    if isinstance(values, Mapping):
        level = dict(values)
    name, *rest = way
    level[name] = _put(level.get(name), tuple(rest), value) if rest else value
    return level


def read_yaml(path: Path) -> Settings:
    """The settings in a YAML file.

    Raises:
        ConfigError: no such file, not YAML, not a mapping, or a key given twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}). Correct the path.") from error
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{path} must hold `key: value` lines at its top level.")
        places: dict[Way, str] = {(): str(path)}
        _places(node, (), path, places)
        values = cast("dict[str, object]", loader.construct_document(node))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    finally:
        loader.dispose()
    return Settings(values, places)


def _places(node: yaml.Node, way: Way, path: Path, places: dict[Way, str]) -> None:
    """Nothing; `places` holds the line of each value below `node`."""
    if isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            _place(child, child, (*way, str(index)), path, places)
    elif isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            name = str(key.value)
            line = f"{path}:{key.start_mark.line + 1}"
            if (*way, name) in places and name != "<<":
                raise ConfigError(f"{line}: {name} is given twice (first at {places[(*way, name)]}). Keep one.")
            _place(key, child, (*way, name), path, places)


def _place(at: yaml.Node, child: yaml.Node, way: Way, path: Path, places: dict[Way, str]) -> None:
    places[way] = f"{path}:{at.start_mark.line + 1}"
    _places(child, way, path, places)


def parse_word(text: str) -> object:
    """The value of a word of the command line, read as YAML; the text itself when it is no YAML."""
    try:
        return cast("Any", yaml.safe_load(text))
    except yaml.YAMLError:
        return text


def nearest(word: str, known: Iterable[str]) -> str:
    """A sentence that offers the known name most like `word`, or all of them."""
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"Known: {', '.join(names)}." if names else "Nothing can be set here."

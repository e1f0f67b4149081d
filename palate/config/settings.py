"""Raw settings, and where each was written: a line of a YAML file, or a word of the command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

from palate.config.encoding import utf8_text
from palate.config.former_names import renamed
from palate.core import ConfigError

Keys = tuple[str, ...]
"""Names from the top of the settings down to one value."""


@dataclass(frozen=True)
class Settings:
    """Nested values, and where each was written.

    Attributes:
        values: mappings, lists and scalars, as YAML gives them.
        places: keys of a value -> `file:line`, or the words of the command line.
    """

    values: Mapping[str, object] = field(default_factory=dict)
    places: Mapping[Keys, str] = field(default_factory=dict)

    def place(self, keys: Keys) -> str:
        """Return where the value at `keys`, or the nearest one above it, was written."""
        for length in range(len(keys), -1, -1):
            if keys[:length] in self.places:
                return self.places[keys[:length]]
        return "settings"

    def get(self, keys: Keys) -> object:
        """Return the value at `keys`; None when there is none."""
        value: object = self.values
        for name in keys:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    def put(self, keys: Keys, value: object, place: str) -> Settings:
        """Return settings with `value` at `keys`, and `place` as where it was written.

        A scalar above `keys` is read as the `kind` of what stands there: `objective: dpo` and then
        `objective.beta=0.2` make `{kind: dpo, beta: 0.2}`.
        """
        return Settings(_put(self.values, keys, value), {**self.places, keys: place})


def _put(values: object, keys: Keys, value: object) -> dict[str, object]:
    level: dict[str, object] = {} if values is None else {"kind": values}
    if isinstance(values, Mapping):
        level = dict(values)
    name, *rest = keys
    level[name] = _put(level.get(name), tuple(rest), value) if rest else value
    return level


def read_yaml(path: Path) -> Settings:
    """Read the settings in a YAML file.

    Raises:
        ConfigError: the file does not exist, is not YAML, is not a mapping, or gives a key twice.
    """
    try:
        text = utf8_text(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error}). Correct the path.") from error
    except ValueError as error:
        raise ConfigError(str(error)) from error
    try:
        loader = yaml.SafeLoader(text)
    except yaml.YAMLError as error:  # a character that no YAML file may have
        raise ConfigError(f"{path} is not YAML: {error}") from error
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{path} must hold `key: value` lines at its top level.")
        places: dict[Keys, str] = {(): str(path)}
        _places(node, (), path, places)
        values = cast("dict[str, object]", loader.construct_document(node))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    finally:
        loader.dispose()
    return Settings(values, places)


def _places(node: yaml.Node, keys: Keys, path: Path, places: dict[Keys, str]) -> None:
    """Put the line of each value below `node` into `places`."""
    if isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            _place(child, child, (*keys, str(index)), path, places)
    elif isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            name = str(key.value)
            line = f"{path}:{key.start_mark.line + 1}"
            if (*keys, name) in places and name != "<<":
                raise ConfigError(f"{line}: {name} is given twice (first at {places[(*keys, name)]}). Keep one.")
            _place(key, child, (*keys, name), path, places)


def _place(at: yaml.Node, child: yaml.Node, keys: Keys, path: Path, places: dict[Keys, str]) -> None:
    places[keys] = f"{path}:{at.start_mark.line + 1}"
    _places(child, keys, path, places)


@contextmanager
def collected(errors: list[str]) -> Iterator[None]:
    """A context in which a ConfigError does not end the work: its message joins `errors`."""
    try:
        yield
    except ConfigError as error:
        errors.append(str(error))


def raise_collected(errors: Sequence[str]) -> None:
    """Raise one ConfigError with all messages, a line each and each once, if there are any."""
    if errors:
        raise ConfigError("\n".join(dict.fromkeys(errors)))


def parse_word(text: str) -> object:
    """Return the value of a word of the command line, read as YAML; the text itself where it is not YAML."""
    try:
        return cast("Any", yaml.safe_load(text))
    except yaml.YAMLError:
        return text


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a sentence that offers what `word` is called now, the known name most like it, or all known names."""
    names = list(known)
    if new := renamed(word, names):
        return f"It is called {new!r} now."
    by_lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {by_lower[close[0]]!r}?"
    return f"Known: {', '.join(names)}." if names else "There is nothing to set here."

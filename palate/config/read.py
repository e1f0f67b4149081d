"""Reading a stage's configuration: fill frozen dataclasses from raw settings. Errors give name, place and remedy."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass, replace
from functools import cache
from typing import Any, TypeVar, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError

from palate.config.object_paths import path_of
from palate.config.own_members import (
    FUNCTION,
    fitting_class,
    function_member,
    is_import_path,
    kind_names,
    of_further_kind,
    own_class,
    own_kind,
)
from palate.config.settings import Keys, Settings, collected, nearest, parse_word, raise_collected
from palate.config.types import (
    FieldType,
    InputMark,
    accepts,
    choices_of,
    default_of,
    field_type,
    hints_of,
    kind_of,
    setting_of,
    type_text,
    wanted_text,
)
from palate.core import ConfigError

T = TypeVar("T")

QUOTE = " (YAML reads on, off, yes and no as true and false: quote them)"

PRESET = "preset"
"""The setting that names one of a class's presets. The configuration holds the preset's values, not its name."""


def read_config(cls: type[T], settings: Settings, keys: Keys = (), ignored: tuple[str, ...] = (), *, takes_objects: bool = False) -> T:
    """Fill `cls` from the settings below `keys`; what they leave out takes its default.

    A mapping for a union names its member by `kind`; without `kind` it changes fields of the default. A word
    in place of a mapping is a `kind`. Where `cls` has `PRESETS` (name -> values by field), the settings override
    the preset that `preset` names.

    Args:
        cls: a frozen dataclass.
        settings: raw values and their places.
        keys: where in the settings the dataclass begins.
        ignored: keys at `keys` that are not its fields.
        takes_objects: whether Python objects may stand where a value names one: what an input should read stays as it is.

    Raises:
        ConfigError: names are unknown or missing, or values have the wrong type; one line for each, with its place.
    """
    raw = settings.get(keys) if keys else settings.values
    values = {} if raw is None else raw
    if not isinstance(values, Mapping):
        raise ConfigError(f"{settings.place(keys)}: {_dotted(keys)} must hold `key: value` lines, got {raw!r}.")
    own = {name: value for name, value in values.items() if name not in ignored}
    reader = _Reader(settings, takes_objects=takes_objects)
    return reader.build(cls, reader.preset(cls, own, keys), None, keys)


class _Reader:
    """Reads values by type. It keeps the settings so that errors can say where a value was written."""

    def __init__(self, settings: Settings, *, takes_objects: bool) -> None:
        self._settings, self._takes_objects = settings, takes_objects

    def error(self, keys: Keys, message: str) -> ConfigError:
        return ConfigError(f"{self._settings.place(keys)}: {message}")

    def preset(self, cls: type, raw: Mapping[str, object], keys: Keys) -> Mapping[str, object]:
        """`raw`, completed by the preset that it names."""
        presets: Mapping[str, Mapping[str, object]] = getattr(cls, "PRESETS", {})
        if not presets or PRESET not in raw:
            return raw
        explicit = {name: value for name, value in raw.items() if name != PRESET}
        if raw[PRESET] not in presets:
            raise self.error((*keys, PRESET), f"there is no preset {raw[PRESET]!r}. {nearest(str(raw[PRESET]), presets)}")
        return _over(presets[str(raw[PRESET])], explicit)

    def build(self, cls: type[T], raw: Mapping[str, object], start: T | None, keys: Keys) -> T:
        """`cls` with the fields in `raw`. Other fields are those of `start`, or their defaults."""
        known = {setting_of(item): item for item in fields(cast("Any", cls)) if item.init}
        hints = hints_of(cast("type", cls))
        unknown = [str(name) for name in raw if name not in known]
        errors = [str(self.error((*keys, name), f"{cls.__name__} has no {name!r}. {nearest(name, known)}")) for name in unknown]
        values: dict[str, object] = {}
        for name, item in known.items():
            default = default_of(item) if start is None else getattr(start, item.name)
            if name in raw:
                with collected(errors):
                    values[item.name] = self.read(hints[item.name], raw[name], default, (*keys, name))
            elif default is MISSING:
                errors.append(str(self.error(keys, f"{cls.__name__} needs {name!r}. Give it a value.")))
            else:
                values[item.name] = default
        raise_collected(errors)
        try:
            return cls(**values)
        except ConfigError as error:
            raise self.error(keys, str(error)) from error

    def read(self, annotation: Any, raw: object, default: object, keys: Keys) -> object:
        """`raw` as a value of the type."""
        shape = field_type(annotation)
        if shape.is_optional and (raw is None or (isinstance(raw, str) and raw in ("none", "null"))):
            return None
        if self._takes_objects and (found := self.given(shape, raw, keys)) is not None:
            return found
        word = raw[0] if shape.container is tuple and isinstance(raw, list) and len(raw) == 1 else raw  # the command line lists every word
        if raw is None or (shape.mark is not None and isinstance(word, str) and not word.strip()):  # an empty path is the current folder
            raise self.error(
                keys,
                f"{_dotted(keys)} is empty: nothing, `~` or `null` stands there. Give it {wanted_text(annotation)}, or leave the name out"
                f"{'' if default is MISSING else ' for its default'}.",
            )
        if shape.members and (shape.leaf is None or _is_mapping(raw) or raw in [kind_of(cls) for cls in shape.members]):
            return self.member(shape.members, raw, default, keys)
        if shape.container is tuple:
            if shape.mark is not None and isinstance(word, str) and not word.startswith(("[", "{")):
                return self.leaf(shape.leaf, word, keys)
            listed = parse_word(word) if isinstance(word, str) and word.startswith("[") else raw
            items = listed if isinstance(listed, list | tuple) else [listed]
            return self.listed(shape.item, items, keys)
        if shape.container is dict:
            return self.named(shape.item, raw, default, keys)
        return self.leaf(shape.leaf, raw, keys)

    def given(self, shape: FieldType, raw: object, keys: Keys) -> object:
        """A Python object that stands for a value of this type; None where `raw` is to be read like text of a file."""
        if raw is None or isinstance(raw, str):
            return None
        is_instance = is_dataclass(raw) and not isinstance(raw, type)
        if shape.mark is not None and shape.container is tuple:
            members = field_type(shape.item).members
            if isinstance(raw, list | tuple) and any(isinstance(item, (*members, os.PathLike)) for item in raw):
                return tuple(raw)
            return (raw,) if isinstance(raw, members) else raw  # one source; else one path, or rows
        if shape.container is not None:
            return None
        if shape.mark is not None and not isinstance(raw, shape.members):
            return raw
        if not shape.members or not (is_instance or callable(raw)):
            return None
        if isinstance(raw, shape.members):
            return raw
        try:
            caller = function_member(shape.members)
            if not is_instance and not isinstance(raw, type) and caller is not None:
                return caller(**{FUNCTION: path_of(cast("Callable[..., Any]", raw))})
            own = raw if isinstance(raw, type) else type(raw)
            fitting_class(own, path_of(own), shape.members)
            return own() if isinstance(raw, type) else raw
        except ConfigError as error:
            raise self.error(keys, f"{_dotted(keys)}: {error}") from error

    def listed(self, item: Any, raw: Sequence[object], keys: Keys) -> tuple[object, ...]:
        """`raw` as values of type `item`."""
        read: list[object] = []
        errors: list[str] = []
        for index, value in enumerate(raw):
            with collected(errors):
                read.append(self.read(item, value, MISSING, (*keys, str(index))))
        raise_collected(errors)
        return tuple(read)

    def named(self, item: Any, raw: object, default: object, keys: Keys) -> dict[str, object]:
        """`raw` as a mapping of names to values of type `item`."""
        if not isinstance(raw, Mapping):
            raise self.error(keys, f"{_dotted(keys)} must hold `name: value` lines, got {raw!r}.")
        read: dict[str, object] = {}
        errors: list[str] = []
        for name, value in raw.items():
            if not isinstance(name, str) or "." in name:
                raise self.error((*keys, str(name)), f"{_dotted(keys)}: the name {name!r} must be a word without dots. Rename it.")
            old = default.get(name, MISSING) if isinstance(default, Mapping) else MISSING
            with collected(errors):
                read[name] = self.read(item, value, old, (*keys, name))
        raise_collected(errors)
        return read

    def member(self, members: tuple[type, ...], raw: object, default: object, keys: Keys) -> object:
        """The member of a union of dataclasses that `raw` describes."""
        kinds = {kind_of(cls): cls for cls in members}
        values: object = {"kind": raw} if isinstance(raw, str) and None not in kinds else raw
        if isinstance(raw, str) and raw.startswith("{"):
            values = parse_word(raw)  # the command line gives a mapping as one word
        if not isinstance(values, Mapping):
            raise self.error(keys, f"{_dotted(keys)} must hold `key: value` lines, got {raw!r}.")
        if is_import_path(values.get("kind")) and None not in kinds:
            return self.own(members, values, default, keys)
        if "kind" in values and None not in kinds:
            values = of_further_kind(members, values)
            chosen = kinds.get(cast("str", values["kind"]))
            if chosen is None:
                word = str(values["kind"])
                raise self.error((*keys, "kind"), f"{_dotted(keys)} has no kind {word!r}. {nearest(word, kind_names(members))}")
        elif isinstance(default, members):
            chosen = type(default)
        elif len(members) == 1:
            chosen = members[0]
        else:
            raise self.error(keys, f"{_dotted(keys)} must say its kind: {', '.join(map(str, kinds))}.")
        return self.build(chosen, values, default if type(default) is chosen else None, keys)

    def own(self, members: tuple[type, ...], values: Mapping[str, object], default: object, keys: Keys) -> object:
        """An instance of the user's class at the import path in `kind`, or of the member that calls the user's function there."""
        path = cast("str", values["kind"])
        try:
            chosen = own_class(path, members)
        except ConfigError as error:
            raise self.error((*keys, "kind"), f"{_dotted(keys)}: {error}") from error
        rest = {name: value for name, value in values.items() if name != "kind"}
        if chosen in members:
            rest[FUNCTION] = path
        elif any(item.name == "kind" and default_of(item) is MISSING for item in fields(chosen)):
            rest["kind"] = path
        return self.build(chosen, rest, default if type(default) is chosen else None, keys)

    def leaf(self, annotation: Any, raw: object, keys: Keys) -> object:
        """`raw` as pydantic reads it, which tries words of the command line as text and as YAML."""
        if raw is False and "off" in choices_of(annotation):
            raw = "off"  # YAML reads the word so
        if isinstance(raw, bool) and not accepts(annotation, bool):
            hint = QUOTE if accepts(annotation, str) else ""
            raise self.error(keys, f"{_dotted(keys)} must not be {str(raw).lower()}{hint}. Expected: {type_text(annotation)}.")
        tries = [raw, parse_word(raw)] if isinstance(raw, str) else [raw]
        first: ValidationError | None = None
        for value in tries:
            try:
                return cast("object", _adapter(annotation).validate_python(value))
            except ValidationError as error:
                first = first or error
        assert first is not None
        problem = first.errors()[0]["msg"]
        offer = f" {nearest(str(raw), choices)}" if (choices := choices_of(annotation)) else ""
        if isinstance(value, list) and any(isinstance(one, bool) for one in value):
            offer += QUOTE
        raise self.error(keys, f"{_dotted(keys)}: {problem}, got {raw!r}. Expected: {type_text(annotation)}.{offer}")


def _over(below: Mapping[str, object], above: Mapping[str, object]) -> dict[str, object]:
    """Values of `below`, overridden by `above`. A member of a union of another kind replaces all fields of the one below."""
    merged = {**below, **above}
    for name in below.keys() & above.keys():
        old, new = below[name], above[name]
        if isinstance(old, Mapping) and isinstance(new, Mapping) and new.get("kind", old.get("kind")) == old.get("kind"):
            merged[name] = _over(old, new)
        elif isinstance(old, Mapping) and new == old.get("kind"):
            merged[name] = old
    return merged


@cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation, config=ConfigDict(allow_inf_nan=False))


def map_inputs(config: T, change: Callable[[str, str, InputMark], str]) -> T:
    """Return `config` with every input, nested ones too, replaced by `change(dotted field, value, mark)`."""
    return cast("T", _map(type(config), config, (), change))


def _map(annotation: Any, value: Any, keys: Keys, change: Callable[[str, str, InputMark], str]) -> Any:
    shape = field_type(annotation)
    is_list = shape.container is tuple and isinstance(value, tuple)
    is_member = isinstance(value, shape.members)
    if shape.mark is not None and not is_list and not is_member and value is not None:
        return change(_dotted(keys), value, shape.mark)
    if is_dataclass(value) and not isinstance(value, type):
        hints = hints_of(type(value))
        own = [item for item in fields(value) if item.init]
        if shape.members and (path := own_kind(value, shape.members)) is not None:
            change(_dotted((*keys, "kind")), path, InputMark(function=True))
        return replace(value, **{i.name: _map(hints[i.name], getattr(value, i.name), (*keys, setting_of(i)), change) for i in own})
    if is_list:
        return tuple(_map(shape.item, item, (*keys, str(index)), change) for index, item in enumerate(value))
    if shape.container is dict and isinstance(value, dict):
        return {name: _map(shape.item, item, (*keys, name), change) for name, item in value.items()}
    return value


def dump_config(value: object, annotation: Any = None) -> Any:
    """Return `value` as JSON values: dataclasses and mappings as mappings, tuples as lists. `read_config` reads it back.

    The `kind` of a class of the user's is its import path; `annotation` is the type of the setting that holds the value.
    """
    shape = FieldType() if annotation is None else field_type(annotation)
    if is_dataclass(value) and not isinstance(value, type):
        hints = hints_of(type(value))
        dumped = {setting_of(item): dump_config(getattr(value, item.name), hints[item.name]) for item in fields(value) if item.init}
        path = own_kind(value, shape.members) if shape.members else None
        return dumped if path is None else {**dumped, "kind": path}
    if isinstance(value, Mapping):
        return {str(name): dump_config(item, shape.item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [dump_config(item, shape.item) for item in value]
    return value


def _dotted(keys: Keys) -> str:
    return ".".join(keys)


def _is_mapping(raw: object) -> bool:
    """Whether it is a mapping, or a word of the command line that spells one."""
    return isinstance(raw, Mapping) or (isinstance(raw, str) and raw.startswith("{"))

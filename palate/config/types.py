"""Types of settings: inputs, unions of dataclasses, tuples, mappings, and everything that pydantic reads."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from functools import cache
from typing import Annotated, Any, Literal, cast

from annotated_types import Ge, Gt, Lt


@dataclass(frozen=True)
class InputMark:
    """Marks a field as the path of an input of the run, whose content is part of the run's key.

    Attributes:
        hub: whether it may also be the name of a model on a hub (`organisation/name`).
        function: whether it is the import path of a Python function, and not the path of a file.
        names: words that name something of Palate's own, and no path.
        has_programs: whether it is a file of rules, whose programs' source is part of the run's key too.
        is_reward: whether it is a reward model, or a run that trained some.
    """

    hub: bool = False
    function: bool = False
    names: tuple[str, ...] = ()
    has_programs: bool = False
    is_reward: bool = False


Input = Annotated[str, InputMark()]
"""A path. In a pipeline it may also be `$stage/path/inside` or `$input`."""

RewardInput = Annotated[str, InputMark(is_reward=True)]
"""A reward model, like `Input`, or the run that trained it. A classifier of rules is refused before the stage begins."""

ModelInput = Annotated[str, InputMark(hub=True)]
"""A model directory, like `Input`, or the name of a model on a hub."""

FunctionInput = Annotated[str, InputMark(function=True)]
"""The import path of a Python function, `package.module:name`."""

RuleFileInput = Annotated[str, InputMark(has_programs=True)]
"""A file of rules, like `Input`."""

Count = Annotated[int, Ge(1)]
"""How many of something: 1 or more."""

Amount = Annotated[float, Gt(0)]
"""How much of something: above 0."""

Share = Annotated[float, Ge(0), Lt(1)]
"""A part of a whole that leaves some of it: from 0 up to, but not including, 1."""

OUTSIDE_KEY: Mapping[str, bool] = {"outside_key": True}
"""The metadata of a field that changes no result of a run, and is not part of its key: what a run watches."""


def fields_outside_key(config: object) -> tuple[str, ...]:
    """Return the dotted names of the settings of a stage, and of dataclasses in it, that are not part of its run's key."""
    names: list[str] = []
    for item in fields(cast("Any", config)):
        value, name = getattr(config, item.name), setting_of(item)
        if item.metadata.get("outside_key"):
            names.append(name)
            continue
        inner = (
            value
            if isinstance(value, Mapping)
            else {str(k): one for k, one in enumerate(value)}
            if isinstance(value, tuple)
            else {"": value}
        )
        for key, one in inner.items():
            if is_dataclass(one) and not isinstance(one, type):
                names += [".".join(part for part in (name, str(key), below) if part) for below in fields_outside_key(one)]
    return tuple(names)


MANY_NAMES = 4
"""From so many names on, a type is described as a name."""

LIMIT_WORDS = {Ge: "at least {0.ge:g}", Gt: "above {0.gt:g}", Lt: "below {0.lt:g}"}


@dataclass(frozen=True)
class FieldType:
    """The parts of a field's type.

    Attributes:
        members: dataclasses that the field may hold.
        item: type of the items of a `tuple[item, ...]`, or of the values of a `dict[str, item]`; None for others.
        container: `tuple`, `dict`, or None. A `tuple` with a `mark` may also be one path alone.
        leaf: the whole type for pydantic, when it is neither of these.
        is_optional: whether the field may be None.
        mark: the input mark, if any.
    """

    members: tuple[type, ...] = ()
    item: Any = None
    container: type | None = None
    leaf: Any = None
    is_optional: bool = False
    mark: InputMark | None = None


@cache
def field_type(annotation: Any) -> FieldType:
    """Take a type apart: `X | None`, unions of dataclasses, `tuple[X, ...]`, `dict[str, X]`, or anything pydantic reads.

    An input can have one dataclass or one tuple beside it (`Input | tuple[Input | DataSource, ...]`).
    """
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        rest = tuple(arg for arg in args if arg is not types.NoneType)
        if len(rest) == 1:
            return replace(field_type(rest[0]), is_optional=True)
        is_optional = len(rest) < len(args)
        path = next((arg for arg in rest if typing.get_origin(arg) is Annotated and field_type(arg).mark is not None), None)
        if path is not None:
            (other,) = (arg for arg in rest if arg is not path)
            return replace(field_type(other), leaf=path, mark=field_type(path).mark, is_optional=is_optional)
        members = tuple(arg for arg in rest if is_dataclass(arg))
        leaves = tuple(arg for arg in rest if not is_dataclass(arg))
        leaf = typing.Union[leaves] if leaves else None  # noqa: UP007 (built from a tuple)
        return FieldType(members=cast("tuple[type, ...]", members), leaf=leaf, is_optional=is_optional)
    if origin is Annotated:
        mark = next((extra for extra in args[1:] if isinstance(extra, InputMark)), None)
        inner = field_type(args[0])
        return replace(inner, mark=mark, leaf=annotation) if inner.container is None and not inner.members else inner
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return FieldType(item=args[0], container=tuple)
    if origin is dict and args[0] is str:
        return FieldType(item=args[1], container=dict)
    if is_dataclass(annotation):
        return FieldType(members=(cast("type", annotation),))
    return FieldType(leaf=annotation)


@cache
def hints_of(cls: type) -> Mapping[str, Any]:
    """Return the type of each field, with strings resolved and annotations kept."""
    return typing.get_type_hints(cls, include_extras=True)


def setting_of(item: Field[Any]) -> str:
    """Return what settings call a field: its name, without the last underscore that a word of Python needs (`from_`)."""
    return item.name.removesuffix("_")


def kind_of(cls: type) -> str | None:
    """Return the tag in `kind: Literal["dpo"] = "dpo"`; None for a dataclass without one."""
    hint = hints_of(cls).get("kind")
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Literal else None


def name_of_kind(value: object) -> str:
    """Return what messages call a member of a union: its kind, or for a class of the user's its name."""
    return kind_of(type(value)) or type(value).__name__


def default_of(item: Field[Any]) -> Any:
    """Return the field's default; MISSING when it needs a value."""
    if item.default_factory is not MISSING:
        return item.default_factory()
    return item.default


def accepts(annotation: Any, wanted: type) -> bool:
    """Return whether the annotation takes values of the type `wanted`."""
    return annotation is wanted or any(accepts(arg, wanted) for arg in typing.get_args(annotation) if arg is not Ellipsis)


def choices_of(annotation: Any) -> list[str]:
    """Return the words of a `Literal`; an empty list for other types."""
    return [str(word) for word in typing.get_args(annotation)] if typing.get_origin(annotation) is Literal else []


def words_of(annotation: Any) -> list[str]:
    """Return the words that the annotation takes: those of every `Literal` in a union, or true and false."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [word for arg in typing.get_args(annotation) for word in words_of(arg)]
    return ["true", "false"] if annotation is bool else choices_of(annotation)


def type_text(annotation: Any) -> str:
    """Return a type in words for messages, help and the reference."""
    shape = field_type(annotation)
    tail = " or none" if shape.is_optional else ""
    if shape.container is not None:
        inner = type_text(shape.item)
        return (f"{inner}, several" if shape.container is tuple else f"{inner}, by name") + tail
    words = [kind_of(cls) or cls.__name__ for cls in shape.members]
    if shape.mark is not None:
        names = shape.mark.names
        words = [
            *(names if len(names) < MANY_NAMES else ("name",)),
            "model" if shape.mark.hub else "function" if shape.mark.function else "path",
            *words,
        ]
    elif shape.leaf is not None:
        words += _leaf_words(shape.leaf)
    return " or ".join(words) + tail


def wanted_text(annotation: Any) -> str:
    """Return what a setting takes, in words: of a list of settings without kinds, the names that each item needs."""
    shape = field_type(annotation)
    item = field_type(shape.item) if shape.container is tuple else FieldType()
    if item.mark is not None or len(item.members) != 1 or kind_of(item.members[0]) is not None:
        return type_text(annotation)
    needed = [setting_of(one) for one in fields(cast("Any", item.members[0])) if one.init and default_of(one) is MISSING]
    return f"a list of which each item has {' and '.join(needed)}"


def _leaf_words(annotation: Any) -> list[str]:
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return [str(word) for word in args]
    if origin is Annotated:
        limits = " and ".join(LIMIT_WORDS[type(extra)].format(extra) for extra in args[1:] if type(extra) in LIMIT_WORDS)
        return [f"{' or '.join(_leaf_words(args[0]))} {limits}".strip()]
    if origin in (typing.Union, types.UnionType):
        return [word for arg in args for word in _leaf_words(arg)]
    if origin is tuple:
        return [f"list of {len(args)}: {', '.join(word for arg in args for word in _leaf_words(arg))}"]
    if origin is not None:
        return [str(annotation).replace("typing.", "")]
    if annotation is Any:
        return ["any value"]
    return [{str: "text", float: "number", int: "whole number", bool: "true or false"}.get(annotation, str(annotation))]

"""Classes and functions of the user's in place of a member of a union: `objective: my_losses:MyLoss`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, cast

from palate.config.functions import load_function
from palate.config.object_paths import path_of
from palate.config.types import field_type, hints_of, kind_of
from palate.core import ConfigError

IMPORT_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_<][\w.<>-]*")

FUNCTION = "function"
"""The setting of a member that calls a function of the user's."""


def is_import_path(word: object) -> bool:
    """Return whether a word has the form of an import path, `package.module:name`."""
    return isinstance(word, str) and IMPORT_PATH.fullmatch(word) is not None


def own_kind(value: object, members: Sequence[type]) -> str | None:
    """Return the import path of a value's class where a setting may hold one of `members` and the value is none of these; else None."""
    if isinstance(value, tuple(members)) or not is_dataclass(value) or isinstance(value, type) or None in map(kind_of, members):
        return None
    return path_of(type(value))


def function_member(members: Sequence[type]) -> type | None:
    """Return the member that calls a function of the user's; None where there is none."""
    for cls in members:
        hint = hints_of(cls).get(FUNCTION)
        if hint is not None and (mark := field_type(hint).mark) is not None and mark.function:
            return cls
    return None


def of_further_kind(members: Sequence[type], values: Mapping[str, object]) -> Mapping[str, object]:
    """Return the settings of a member whose `kind` may be one of its `FURTHER_KINDS`: other names, each with values by field."""
    for cls in members:
        further = _further_kinds(cls).get(str(values["kind"]))
        if further is not None:
            return {**further, **values, "kind": kind_of(cls)}
    return values


def kind_names(members: Sequence[type]) -> list[str]:
    """Return every kind that a union of dataclasses takes, further ones too."""
    return [str(kind_of(cls)) for cls in members] + [name for cls in members for name in _further_kinds(cls)]


def _further_kinds(cls: type) -> Mapping[str, Mapping[str, object]]:
    return getattr(cls, "FURTHER_KINDS", {})


def own_class(path: str, members: Sequence[type]) -> type:
    """Return the class at an import path that stands in place of one of `members`, or the member that calls the function there.

    Raises:
        ConfigError: nothing is there, or it is neither a dataclass that can stand there nor a function that a member calls.
    """
    return fitting_class(load_function(path), path, members)


def fitting_class(found: Callable[..., Any], path: str, members: Sequence[type]) -> type:
    """Return a class of the user's, checked, or the member that calls this function. Raises ConfigError as `own_class`."""
    caller = function_member(members)
    if not isinstance(found, type):
        if caller is None:
            raise ConfigError(f"{path!r} is not a class. Name a frozen dataclass whose fields are its settings")
        return caller
    if not is_dataclass(found) or not cast("Any", found).__dataclass_params__.frozen:
        raise ConfigError(f"{path!r} is not a frozen dataclass. Write @dataclass(frozen=True) above it: its fields are its settings")
    names = {item.name for item in fields(found)} | set(dir(found))
    if missing := sorted(common_names(members) - names):
        like = ", ".join(str(kind_of(cls)) for cls in members[:3])
        raise ConfigError(f"{path!r} lacks {', '.join(missing)}, which {like} and all other kinds have. Add what is missing")
    return found


def common_names(members: Sequence[type]) -> set[str]:
    """Return the public names that all members have, and `__call__` where all can be called: fields, methods and class variables."""
    each = [{item.name for item in fields(cast("Any", cls))} | set(dir(cls)) for cls in members]
    shared = set.intersection(*each) - {"kind"}
    return {name for name in shared if not name.startswith("_") or name == "__call__"}

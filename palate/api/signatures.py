"""The types of the public names, for editors and type checkers: the text of `palate/__init__.pyi`, which `palate reference` writes."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import palate
from palate.api.stage_calls import RunWords
from palate.config.types import default_of, field_type, hints_of
from palate.pipeline.table import Stages

STUB = Path(palate.__file__).with_suffix(".pyi")

PATHS = ("runs", "out", "extend")
"""Words of a run that are paths."""

HEAD = '''"""Palate from Python: see docs/python.md. `palate reference` writes this file."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import Any, Literal, Protocol

class _Settings(Protocol):
    """A dataclass: its fields are its settings."""

    __dataclass_fields__: Any

_Path = str | PathLike[str]
Data = _Path | Iterable[Any]
"""A file, a run, or rows: mappings, texts, prompts, demonstrations, preferences."""
Model = _Path | CausalPolicy | LearnedReward | ScalarModel
"""A run, a model directory, a name on the hub, or a model of this process."""
Function = str | Callable[..., Any]
"""An import path, or a function."""
Choice = str | Mapping[str, Any] | _Settings | Callable[..., Any]
"""A kind, settings with their kind, an import path, or an object."""

__version__: str
'''


def stub(stages: Stages) -> str:
    """Return the text of the stub. This imports all stages."""
    homes: Mapping[str, tuple[str, ...]] = vars(palate)["_HOMES"]
    imports = [f"from {module} import {name} as {name}" for module, names in sorted(homes.items()) for name in names]
    head, _, version = HEAD.partition("\nclass _Settings")
    imports += ["from palate.models.causal import CausalPolicy", "from palate.models.scalar import ScalarModel"]
    imports += ["from palate.rewards.learned import LearnedReward"]
    lines = [head, *imports, "", f"class _Settings{version}"]
    for name, entry in stages.items():
        lines += [f"def {name}(", "    *,", *_parameters(entry.load()), *_parameters(RunWords), ") -> FinishedRun:"]
        lines += [f'    """{entry.help} See docs/reference.md#{name}."""', ""]
    return "\n".join(lines)


def _parameters(cls: type) -> list[str]:
    hints = hints_of(cls)
    own = [item for item in fields(cast("Any", cls)) if item.init]
    texts = {item.name: "_Path" if cls is RunWords and item.name in PATHS else python_type(hints[item.name]) for item in own}
    return [f"    {item.name}: {texts[item.name]}{'' if default_of(item) is MISSING else ' = ...'}," for item in own]


def python_type(annotation: Any) -> str:
    """Return what a setting of this type takes from Python, as an annotation."""
    shape = field_type(annotation)
    if shape.container is tuple:
        inner = python_type(shape.item)
        texts = [inner, f"Sequence[{inner}]"]
    elif shape.container is dict:
        texts = [f"Mapping[str, {python_type(shape.item)}]"]
    elif shape.mark is not None:
        texts = ["Model" if shape.mark.hub else "Function" if shape.mark.function else "Data | Model"]
    else:
        texts = ["Choice"] if shape.members else []
        texts += [] if shape.leaf is None else [_leaf(shape.leaf)]
    return " | ".join(dict.fromkeys([*texts, *(["None"] if shape.is_optional else [])]))


def _leaf(annotation: Any) -> str:
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _leaf(args[0])
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, args))}]"
    if origin in (typing.Union, types.UnionType):
        return " | ".join(_leaf(arg) for arg in args)
    if annotation in (str, int, float, bool):
        return cast("type", annotation).__name__
    return "Sequence[Any]" if origin is tuple else "Any"

"""The types of the public names, for editors and type checkers: the text of `palate/__init__.pyi`, which `palate reference` writes."""

from __future__ import annotations

import inspect
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

TYPES_FILE = Path(palate.__file__).with_suffix(".pyi")

PATHS = ("runs", "out", "extend")
"""Words of a run that are paths."""

HEAD = '''"""Palate from Python: see docs/python.md. `palate reference` writes this file.

It imports the nouns alone: a type checker would otherwise have to read all of Palate as one circle. For exact types of models import from
`palate.api.model_parts`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from palate.core import Completion as Completion
from palate.core import Demonstration as Demonstration
from palate.core import Message as Message
from palate.core import PalateError as PalateError
from palate.core import Preference as Preference
from palate.core import Prompt as Prompt
from palate.core import Sampling as Sampling
from palate.core import UnpairedPreference as UnpairedPreference

class _Settings(Protocol):
    """A dataclass: its fields are its settings."""

    __dataclass_fields__: Any

class DataSource:
    """One of several sources of rows. See docs/data.md."""

    def __init__(
        self,
        path: Data | Model,
        name: str | None = None,
        weight: float | None = None,
        limit: int | None = None,
        type: str | None = None,
        columns: Choice = ...,
    ) -> None: ...

_Path = str | PathLike[str]
CausalPolicy: TypeAlias = Any
Composition: TypeAlias = Any
LearnedReward: TypeAlias = Any
Loop: TypeAlias = Any
PreTrainedModel: TypeAlias = Any
PreTrainedTokenizerBase: TypeAlias = Any
Rollouts: TypeAlias = Any
RunRecord: TypeAlias = Any
Stage: TypeAlias = Any
DType = str
PromptLike = Prompt | str | Sequence[Mapping[str, Any]]
CompletionLike = Completion | str
Data = _Path | Iterable[Any]
"""A file, a run, or rows: mappings, texts, prompts, demonstrations, preferences."""
Model = _Path | CausalPolicy
"""A run, a model directory, a name on the hub, or a model of this process."""
Function = str | Callable[..., Any]
"""An import path, or a function."""
Choice = str | Mapping[str, Any] | _Settings | Callable[..., Any]
"""A kind, settings with their kind, an import path, or an object."""

__version__: str

class FinishedRun(PathLike[str]):
    """A run that a stage finished. It stands for its directory wherever a path does."""

    name: str
    directory: Path
    how: str
    def __fspath__(self) -> str: ...
    def path(self, *names: str) -> Path: ...
    @property
    def summary(self) -> Mapping[str, Any]: ...
    @property
    def metrics(self) -> list[Mapping[str, float]]: ...
    @property
    def record(self) -> RunRecord: ...
'''

LOOP = "online_loop"
"""The function that takes the settings of a stage and gives its loop."""


def types_text(stages: Stages) -> str:
    """Return the text of that file. This imports all stages."""
    lines = [HEAD]
    for name, entry in stages.items():
        lines += _function(name, entry.load(), "FinishedRun", f"{entry.help} See docs/reference.md#{name}.")
    lines += _function(LOOP, stages["online"].load(), "AbstractContextManager[Loop]", "Give the loop of stage `online` to a program.")
    homes: Mapping[str, tuple[str, ...]] = vars(palate)["_HOMES"]
    for name in sorted(name for module, names in homes.items() if module.startswith("palate.api") for name in names):
        found = getattr(palate, name)
        if name != LOOP and not isinstance(found, type):
            lines += [f"def {name}{_plain(inspect.signature(found))}:", f'    """{_first_line(found)}"""', ""]
    return "\n".join(lines).rstrip() + "\n"


def _function(name: str, cls: type, returns: str, text: str) -> list[str]:
    head = [f"def {name}(", "    *,", *_parameters(cls), *_parameters(RunWords), f") -> {returns}:"]
    return [*head, f'    """{text}"""', ""]


def _plain(signature: inspect.Signature) -> str:
    """Return a signature without quotes around types, and without default values."""
    own = [
        one if one.default is one.empty else one.replace(default=inspect.Parameter.empty, annotation=f"{one.annotation} = ...")
        for one in signature.parameters.values()
    ]
    text = str(inspect.Signature(sorted(own, key=lambda one: one.kind), return_annotation=signature.return_annotation))
    return text.replace("'", "").replace("os.PathLike", "PathLike")


def _first_line(found: object) -> str:
    return (inspect.getdoc(found) or "").partition("\n")[0]


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
        texts += [member.__name__ for member in shape.members]
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

"""Python functions that settings name by their import path: they are found, checked, and called by the names of their arguments."""

from __future__ import annotations

import importlib
import inspect
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from inspect import Parameter
from typing import Any, cast

from palate.config.answers import read_score
from palate.config.function_source import FunctionSource, no_module, source_of, split_path
from palate.config.live_objects import is_live, live_object
from palate.core import ConfigError, DataError, Gold

ALL_FIELDS = "fields"
"""The argument that gets all columns of the row as a mapping, also those whose names are taken."""

_imported: dict[str, str] = {}
"""The digest of the file of each module that was imported here, by the module's name."""


def load_function(path: str) -> Callable[..., Any]:
    """Load the function that `package.module:name` names, as it is on disk now. The current folder is looked into first.

    Raises:
        ConfigError: the module or the name does not exist, cannot be imported, or is not a function.
    """
    if is_live(path):
        return live_object(path)
    module_name, name = split_path(path)
    source = source_of(path)
    _forget_changed(source)
    try:
        function = operator.attrgetter(name)(importlib.import_module(module_name))
    except ModuleNotFoundError as error:
        raise no_module(path, error.name) from error
    except AttributeError as error:
        if module_name not in sys.modules:  # the module itself raised it
            raise ConfigError(f"{path!r} {raised(error)} while it was imported") from error
        raise ConfigError(f"{path!r}: the module {module_name} has no {name!r}") from None
    except Exception as error:
        raise ConfigError(f"{path!r} {raised(error)} while it was imported") from error
    _imported.update(source.digests)
    if not callable(function):
        raise ConfigError(
            f"{path!r} is a {type(function).__name__}, which cannot be called; name a function f(prompt, completion, **fields)"
        )
    return cast("Callable[..., Any]", function)


def _forget_changed(source: FunctionSource) -> None:
    """Forget the modules of a function if one was edited since it was imported here, so that they are imported again."""
    if any(name in sys.modules and _imported.get(name, digest) != digest for name, digest in source.digests.items()):
        for name in source.digests:
            sys.modules.pop(name, None)


def raised(error: BaseException) -> str:
    """Return an exception as one line of text."""
    return f"raised {type(error).__name__}: {' '.join(str(error).split())[:200]}"


class UserFunction:
    """A function of the user's, which is called by the names of its arguments.

    It gets what it names: the caller's own arguments, such as `prompt` and `completion`, and columns of the row. An argument of the
    caller's own hides a column of that name; `fields` gets all columns as one mapping. `**kwargs` gets the rest. Arguments that can only
    be given by position (`f(a, b, /)`, or a function in C) get the first two of the caller's own.
    """

    def __init__(self, path: str, function: Callable[..., Any], own: Sequence[str], required: str, remedy: str = "") -> None:
        """Check that the function can be called.

        Args:
            path: its import path, for messages.
            function: the function.
            own: names of the caller's own arguments; a call by position gets the first two.
            required: the own argument without which a score would mean nothing.
            remedy: what else the user may have meant, for the message.

        Raises:
            ConfigError: the function does not take the required argument.
        """
        self.path, self._function, self._positional = path, function, tuple(own[:2])
        positional = [p for p in self._parameters if p.kind is p.POSITIONAL_ONLY]
        names = [p.name for p in self._parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        taken = {*names, *self._positional[: len(positional)]}
        if not self._takes_all and required not in taken and not self._by_position:
            raise ConfigError(
                f"{path!r} takes {', '.join(names) or 'no argument'}, and not {required}. It is called by the names of its arguments: "
                f"{', '.join(own)}, and columns of the row. Rename its arguments{f', or {remedy}' if remedy else ''}"
            )

    def __call__(self, own: Mapping[str, object], columns: Mapping[str, object]) -> Any:
        """Return what the function returns.

        Args:
            own: the caller's own arguments by name.
            columns: columns of the row by name.

        Raises:
            TypeError: the function needs an argument that is neither.
        """
        given = {**columns, **own}
        if self._by_position:
            return self._function(*(own[name] for name in self._positional))
        first = [p for p in self._parameters if p.kind is p.POSITIONAL_ONLY]
        positions = [own[name] for _, name in zip(first, self._positional, strict=False)]
        named: dict[str, object] = {}
        for parameter in self._parameters:
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                continue
            if parameter.name in given:
                named[parameter.name] = given[parameter.name]
            elif parameter.name == ALL_FIELDS:
                named[parameter.name] = dict(columns)
            elif parameter.default is parameter.empty:
                raise TypeError(
                    f"it needs an argument {parameter.name!r}, which is neither an argument of every such function "
                    f"({', '.join(own)}) nor a column of the rows ({', '.join(columns) or 'they have no further ones'})"
                )
        if self._takes_all:
            named |= {name: value for name, value in given.items() if name not in named and name not in self._positional[: len(positions)]}
        return self._function(*positions, **named)

    @cached_property
    def _parameters(self) -> tuple[Parameter, ...]:
        try:
            return tuple(inspect.signature(self._function).parameters.values())
        except (TypeError, ValueError):  # a function in C without a signature
            return (Parameter("arguments", Parameter.VAR_POSITIONAL),)

    @cached_property
    def _takes_all(self) -> bool:
        """Whether it has `**kwargs`."""
        return any(p.kind is p.VAR_KEYWORD for p in self._parameters)

    @cached_property
    def _by_position(self) -> bool:
        """Whether it has `*args` and nothing by name."""
        kinds = {p.kind for p in self._parameters}
        return kinds == {Parameter.VAR_POSITIONAL}


def load_gold(path: str) -> Gold:
    """Return the function that knows the truth, called by the names of its arguments, with its answer checked.

    Raises:
        ConfigError: it cannot be loaded, or does not take a completion.
    """
    function = UserFunction(path, load_function(path), ("prompt", "completion"), "completion")

    def gold(prompt: str, completion: str, /, **fields: object) -> Mapping[str, float]:
        try:
            answer = function({"prompt": prompt, "completion": completion}, fields)
        except Exception as error:
            raise DataError(f"gold {path!r} {raised(error)}, for the completion {completion[:60]!r}") from error
        if not isinstance(answer, Mapping) or not answer:
            raise DataError(f"gold {path!r} gave {str(answer)[:60]!r} ({type(answer).__name__}), not a mapping of dimension to score")
        return {str(dimension): _number(f"gold {path!r}: {dimension}", value, completion) for dimension, value in answer.items()}

    return gold


def load_probe(path: str) -> Callable[[str], float]:
    """Return a function that counts something in the text of a completion. Its only argument may have any name.

    Raises:
        ConfigError: it cannot be loaded, or does not take a completion.
    """
    loaded = load_function(path)
    function = UserFunction(path, loaded, (_probe_argument(loaded),), _probe_argument(loaded))

    def probe(completion: str) -> float:
        try:
            answer = function({_probe_argument(loaded): completion}, {})
        except Exception as error:
            raise DataError(f"probe {path!r} {raised(error)}, for the completion {completion[:60]!r}") from error
        return _number(f"probe {path!r}", answer, completion)

    return probe


def _probe_argument(function: Callable[..., Any]) -> str:
    """Return the name of the only argument that a probe needs."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return "completion"
    needed = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.default is p.empty]
    return needed[0] if len(needed) == 1 else "completion"


def _number(what: str, value: object, completion: str) -> float:
    """Return a finite number that the user's code gave for a completion."""
    score = read_score(value)
    if isinstance(score, str):
        raise DataError(f"{what} {score}, for the completion {completion[:60]!r}")
    return score

"""What names a function or class of the user's: its import path, or for one of a notebook a name with a digest.

A run's key holds the digest of everything that a function computes with, as far as it can be seen: its code, its defaults, what it closes
over, and the functions, classes and plain values of its own module that it names. Modules that it imports count by their files.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from palate.config.function_source import is_users_module, source_of
from palate.config.live_objects import remember
from palate.core import ConfigError

SHOWN_DIGITS = 8


def path_of(found: Callable[..., Any]) -> str:
    """Return a path that names a function or class: its import path, or a name of this process where that does not lead to it."""
    module, name = getattr(found, "__module__", None), getattr(found, "__qualname__", None)
    if module is not None and name is not None and module != "__main__" and _at(module, name) is found:
        return f"{module}:{name}"
    digest = _digest(found)
    shown = (name or type(found).__qualname__).replace(".<locals>", "").replace("<lambda>", "lambda")
    return remember(f"{shown}-{digest[:SHOWN_DIGITS]}", found, digest)


def _at(module: str, name: str) -> object:
    found: object = sys.modules.get(module)
    if getattr(found, "__file__", None) is None and module not in sys.builtin_module_names:
        return None
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _digest(found: object) -> str:
    total = hashlib.sha256()
    for part in _parts(found, {}):
        total.update(f"{part}\0".encode())
    return total.hexdigest()


def _parts(found: object, seen: dict[int, object]) -> Iterator[str]:
    """Yield texts of everything that an object computes with; each object once."""
    if isinstance(found, str | bytes | int | float | complex | bool | None):
        yield repr(found)
    elif id(found) in seen:
        yield "again"
    else:
        seen[id(found)] = found  # kept alive, so that no other object gets its id
        yield from _parts_of(found, seen)


def _parts_of(found: object, seen: dict[int, object]) -> Iterator[str]:
    match found:
        case FunctionType() | type() if found.__module__ != "__main__" and _at(found.__module__, found.__qualname__) is found:
            yield from _of_module(found.__module__, found.__qualname__)
        case FunctionType():
            yield from _of_function(found, seen)
        case type():
            yield from _of_class(found, seen)
        case MethodType() | BuiltinFunctionType() | partial():
            yield from _parts(_bound(found), seen)
        case ModuleType():
            yield from _of_module(found.__name__)
        case tuple() | list():
            yield f"{type(found).__name__} {len(found)}"
            for item in found:
                yield from _parts(item, seen)
        case set() | frozenset():
            yield repr(sorted(map(repr, found)))
        case Mapping():  # with the attributes of an object too
            yield f"mapping {len(found)}"
            for item in found.items():
                yield from _parts(item, seen)
        case _:
            yield from _parts(type(found), seen)
            yield from _state(found, seen)


def _bound(found: MethodType | BuiltinFunctionType | partial[Any]) -> tuple[object, ...]:
    """Return a callable and what it holds: the object of a method, the module of a function in C, the arguments of a partial."""
    match found:
        case MethodType():
            return found.__func__, found.__self__
        case partial():
            return found.func, found.args, found.keywords
    return found.__qualname__, found.__self__


def _of_function(found: FunctionType, seen: dict[int, object]) -> Iterator[str]:
    """Yield the code of a function, its defaults, what it closes over, and what it names of its module."""
    yield from _code(found.__code__)
    yield from _parts((found.__defaults__, found.__kwdefaults__), seen)
    for cell in found.__closure__ or ():
        yield from _parts(cell.cell_contents, seen)
    for name in _names(found.__code__):
        if name in found.__globals__:
            yield name
            yield from _parts(found.__globals__[name], seen)


def _of_class(found: type, seen: dict[int, object]) -> Iterator[str]:
    """Yield the name of a class, its bases, its methods and its class variables."""
    yield found.__qualname__
    yield from _parts(found.__bases__, seen)
    for name, value in vars(found).items():
        if not name.startswith("__") or name in {"__call__", "__post_init__", "__init__"}:
            yield name
            yield from _parts(getattr(value, "__func__", getattr(value, "fget", value)), seen)


def _state(found: object, seen: dict[int, object]) -> Iterator[str]:
    """Yield what an object holds: its attributes, the numbers of an array, or its text.

    Raises:
        ConfigError: none of these says what it holds.
    """
    array = found.detach().cpu().float().numpy() if type(found).__module__.startswith("torch") and hasattr(found, "detach") else found
    if hasattr(array, "tobytes"):
        yield hashlib.sha256(array.tobytes()).hexdigest()
    elif (attributes := getattr(found, "__dict__", None)) is not None:
        yield from _parts(attributes, seen)
    elif " at 0x" not in (text := repr(found)):
        yield text
    else:
        raise ConfigError(
            f"a function computes with {text}, and nothing says what that holds, so a run made with it could not be told from others. "
            "Make it inside the function, or define both in a module and name that"
        )


def _of_module(module: str, name: str = "object") -> Iterator[str]:
    """Yield what a module's files are, as for an import path: the user's own files, and the names of others."""
    yield source_of(f"{module}:{name}").key if is_users_module(module) else f"{module}:{name}"


def _code(code: CodeType) -> Iterator[str]:
    yield code.co_code.hex()
    yield repr((code.co_names, code.co_varnames, code.co_freevars, code.co_argcount, code.co_kwonlyargcount, code.co_flags))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code(constant)
        else:
            yield repr(sorted(map(repr, constant))) if isinstance(constant, frozenset) else repr(constant)


def _names(code: CodeType) -> list[str]:
    """Return the names that a function may look up in its module, those of inner functions too."""
    inner = [name for constant in code.co_consts if isinstance(constant, CodeType) for name in _names(constant)]
    return list(dict.fromkeys((*code.co_names, *inner)))

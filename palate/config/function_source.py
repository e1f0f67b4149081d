"""The source of the user's functions: which files a function's module is made of, and their digest. Nothing is imported.

A run's key holds the digest, so that an edited function is another run. The files are those of the module and of all modules that it
imports, as far as they are the user's own. Packages that are installed, Python's library and Palate have versions of their own.
Modules whose names are only known while the function runs are not found, and neither are files that it reads.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import os
import site
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from palate.config.live_objects import is_live, live_digest
from palate.core import ConfigError

DIGEST_LENGTH = 12
PACKAGE = Path(__file__).resolve().parents[1]
IMPORTERS = frozenset({"import_module", "__import__"})
"""Functions whose first argument names a module."""


@dataclass(frozen=True)
class FunctionSource:
    """What a function is made of.

    Attributes:
        path: its import path, `package.module:name`.
        files: the file of each module, by the module's name; empty for a function of Palate or of Python's library.
        digests: the SHA-256 of each of these files, in hex, by the module's name; of an object of this process, what it computes with.
    """

    path: str
    files: Mapping[str, Path]
    digests: Mapping[str, str]

    @property
    def key(self) -> str:
        """What identifies the function: its import path, and a digest of its files where it has some."""
        if not self.digests:
            return self.path
        total = hashlib.sha256("".join(f"{name}\0{digest}\0" for name, digest in sorted(self.digests.items())).encode())
        return f"{self.path}@{total.hexdigest()[:DIGEST_LENGTH]}"

    @property
    def file(self) -> Path | str | None:
        """The file of the function's own module; the name of an object of this process; None where `digests` is empty."""
        return self.files.get(self.path.partition(":")[0], self.path if self.digests else None)


def split_path(path: str) -> tuple[str, str]:
    """Return the module and the name in an import path.

    Raises:
        ConfigError: it does not have both.
    """
    module, _, name = path.partition(":")
    if not name or not module:
        raise ConfigError(f"{path!r} does not name a function; write package.module:function")
    return module, name


_placed: list[str] = []
"""The folder that was put first on the path of imports."""


def put_current_folder_first() -> None:
    """Let imports look in the current folder first, as `python -m palate` does, whatever started this process."""
    here = str(Path.cwd())
    if _placed and _placed != [here]:
        if _placed[0] in sys.path:
            sys.path.remove(_placed[0])  # the first of that name: somebody else may have named the folder too
        _placed.clear()
    if sys.path[:1] != [here] and sys.path[:1] != [""]:
        sys.path.insert(0, here)
        _placed[:] = [here]
    importlib.invalidate_caches()


def source_of(path: str) -> FunctionSource:
    """Return the source of the function at an import path as it is on disk now.

    Raises:
        ConfigError: the path does not name a function, or there is no such module.
    """
    if is_live(path):
        return FunctionSource(path, {}, {path: live_digest(path)})
    module, _ = split_path(path)
    put_current_folder_first()
    own = _spec(module)
    if own is None:
        parts = module.split(".")
        absent = next((name for name in (".".join(parts[: k + 1]) for k in range(len(parts))) if _spec(name) is None), module)
        raise no_module(path, absent)
    if not own.has_location or own.origin is None or _is_library(Path(own.origin)):
        return FunctionSource(path, {}, {})
    files = dict(_modules(module))
    return FunctionSource(path, files, {name: hashlib.sha256(_content(file)).hexdigest() for name, file in files.items()})


def no_module(path: str, name: str | None) -> ConfigError:
    """Return the error about a function whose module does not exist."""
    named = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    looked = ", ".join((f"the current folder {Path.cwd()}", *named))
    return ConfigError(
        f"{path!r}: there is no module {name!r}; install it, or put its folder on PYTHONPATH. Palate looked in {looked} and among "
        "the installed packages"
    )


def is_users_module(module: str) -> bool:
    """Return whether a module is the user's own code; installed packages, Python's library and Palate have versions of their own."""
    put_current_folder_first()
    spec = _spec(module)
    return spec is not None and spec.has_location and spec.origin is not None and _is_users(Path(spec.origin))


def _modules(start: str) -> Iterator[tuple[str, Path]]:
    """Yield name and file of a module and of every module of the user's that it imports, directly or not; each once."""
    todo, seen = [start], {""}
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        todo.append(name.rpartition(".")[0])  # the package around it is imported first
        spec = _spec(name)
        if spec is None or spec.origin is None or not spec.has_location:
            continue  # an attribute of a module, a part of the interpreter, or a folder without code
        file = Path(spec.origin)
        if not _is_users(file) and name.partition(".")[0] != start.partition(".")[0]:
            continue
        yield name, file
        todo += _imported(file, name if spec.submodule_search_locations is not None else name.rpartition(".")[0])


def _imported(file: Path, package: str) -> list[str]:
    """Return the names of what a file imports, anywhere in it; some are attributes of modules."""
    names: list[str] = []
    if file.suffix != ".py":
        return names
    with suppress(SyntaxError, ValueError):  # the import will say so
        for node in ast.walk(ast.parse(_content(file))):
            match node:
                case ast.Import():
                    names += [alias.name for alias in node.names]
                case ast.ImportFrom():
                    base = _absolute(node.module or "", node.level, package)
                    names += [base, *(f"{base}.{alias.name}".lstrip(".") for alias in node.names)]
                case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called), args=[ast.Constant(value=str(name)), *_]):
                    names += [_absolute(name.lstrip("."), len(name) - len(name.lstrip(".")), package)] if called in IMPORTERS else []
    return names


def _absolute(module: str, level: int, package: str) -> str:
    """Return the absolute name of what is imported from `level` packages above."""
    if not level:
        return module
    parts = package.split(".")
    return ".".join(part for part in (*parts[: len(parts) - level + 1], module) if part)


def _spec(name: str) -> ModuleSpec | None:
    """Find a module without importing it or the packages around it."""
    first, *rest = name.split(".")
    found = (finder.find_spec(first, None) for finder in sys.meta_path)
    spec = next((one for one in found if one is not None), None)
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        # By its last name alone: with the whole name, a folder without __init__.py would ask for the package around it.
        spec = PathFinder.find_spec(part, list(spec.submodule_search_locations))
    return spec


def _content(file: Path) -> bytes:
    """Return the content of a module's file; of an archive, where the module lies in one."""
    return next(place for place in (file, *file.parents) if place.is_file()).read_bytes()


def _is_users(file: Path) -> bool:
    """Whether a file is the user's own code: neither Palate's nor Python's, and not of an installed package."""
    return not (_is_library(file) or {"site-packages", "dist-packages"} & set(file.parts))


def _is_library(file: Path) -> bool:
    """Whether a file belongs to Palate or to Python's library."""
    place = Path(os.path.realpath(file))
    if PACKAGE in place.parents:
        return True
    return any(folder in place.parents for folder in _library()) and not any(folder in place.parents for folder in _installed())


@cache
def _library() -> tuple[Path, ...]:
    return tuple(Path(os.path.realpath(sysconfig.get_paths()[name])) for name in ("stdlib", "platstdlib"))


@cache
def _installed() -> tuple[Path, ...]:
    folders = (*site.getsitepackages(), site.getusersitepackages(), *(sysconfig.get_paths()[name] for name in ("purelib", "platlib")))
    return tuple(Path(os.path.realpath(folder)) for folder in folders)

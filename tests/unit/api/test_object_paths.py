"""What names an object: its import path, or a name with a digest of all that it computes with."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from palate.config.function_source import source_of
from palate.config.functions import load_function
from palate.config.object_paths import path_of
from palate.core import ConfigError
from tests.unit.api import own_functions


def made(code: str, **names: object) -> Callable[..., Any]:
    """The function `f` of a notebook's cell."""
    module: dict[str, object] = {"__name__": "__main__", **names}
    exec(code, module)
    found: Callable[..., Any] = module["f"]  # type: ignore[assignment]
    return found


def key(found: Callable[..., Any]) -> str:
    return source_of(path_of(found)).key


def test_what_has_an_import_path_is_named_by_it() -> None:
    assert path_of(own_functions.brevity) == "tests.unit.api.own_functions:brevity"
    assert path_of(math.sqrt) == "math:sqrt"
    assert path_of(ConfigError) == "palate.core.errors:ConfigError"


def test_an_object_without_one_is_loaded_under_its_name() -> None:
    found = made("def f(completion): return len(completion)")
    path = path_of(found)
    assert path.startswith("object:f-")
    assert load_function(path) is found
    with pytest.raises(ConfigError, match="was an object of another process, such as a notebook. Give the object again"):
        load_function("object:f-00000000")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(x): return x + 1", "def f(x): return x + 2"),
        ("def f(x): return x + 1", "def f(x): return x - 1"),
        ("def f(x, k=1): return x", "def f(x, k=2): return x"),
        ("def f(x, *, k=1): return x", "def f(x, *, k=2): return x"),
        ("k = 1\ndef f(x): return k", "k = 2\ndef f(x): return k"),
        ("def g(x): return x\ndef f(x): return g(x)", "def g(x): return -x\ndef f(x): return g(x)"),
        ("f = lambda x: [y + 1 for y in x]", "f = lambda x: [y + 2 for y in x]"),
        ("def h(k):\n    def f(x): return k\n    return f\nf = h(1)", "def h(k):\n    def f(x): return k\n    return f\nf = h(2)"),
        ("class A:\n    k = 1\n    def __call__(self, x): x\nf = A()", "class A:\n    k = 2\n    def __call__(self, x): x\nf = A()"),
        ("class A:\n    def __call__(self, x): x\nf = A()\nf.k = 1", "class A:\n    def __call__(self, x): x\nf = A()\nf.k = 2"),
        ("class A:\n    def g(self, x): return x\nf = A().g", "class A:\n    def g(self, x): return -x\nf = A().g"),
        ("d = {'a': [1, (2,)]}\ndef f(x): return d", "d = {'a': [1, (3,)]}\ndef f(x): return d"),
    ],
)  # fmt: skip
def test_everything_that_it_computes_with_is_in_the_digest(one: str, other: str) -> None:
    assert key(made(one)) != key(made(other))
    assert key(made(one)) == key(made(f"# another place\n\n{one}"))


def test_arrays_partials_and_modules_are_in_the_digest() -> None:
    code = "def f(x): return k"
    assert key(made(code, k=torch.ones(3))) == key(made(code, k=torch.ones(3))) != key(made(code, k=torch.zeros(3)))
    assert key(made(code, k=np.ones(3))) != key(made(code, k=np.zeros(3)))
    assert key(partial(pow, 2)) != key(partial(pow, 3))
    assert key(made(code, k=own_functions)) != key(made(code, k=math))
    assert key(made(code, k=len)) != key(made(code, k=abs))
    layer = torch.nn.Linear(2, 2)
    before = key(made(code, k=layer))
    torch.nn.init.zeros_(layer.weight)
    assert key(made(code, k=layer)) != before


def test_what_cannot_be_told_apart_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing says what that holds"):
        path_of(made("def f(x): return k", k=threading.Lock()))

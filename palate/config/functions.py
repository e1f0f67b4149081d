"""Python functions that settings name by their import path."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from palate.core import ConfigError


def load_function(path: str) -> Callable[..., Any]:
    """Load the function that `package.module:name` names.

    Raises:
        ConfigError: the module or the name does not exist, or is not a function.
    """
    module_name, _, name = path.partition(":")
    if not name:
        raise ConfigError(f"{path!r} does not name a function; write package.module:function")
    try:
        function = vars(importlib.import_module(module_name))[name]
    except ModuleNotFoundError as error:
        raise ConfigError(f"{path!r}: there is no module {error.name!r}; install it, or put its folder on PYTHONPATH") from error
    except KeyError:
        raise ConfigError(f"{path!r}: the module {module_name} has no {name!r}") from None
    if not callable(function):
        raise ConfigError(
            f"{path!r} is a {type(function).__name__}, which cannot be called; name a function f(prompt, completion, **fields)"
        )
    return function  # type: ignore[no-any-return]

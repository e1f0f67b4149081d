"""Numbers by dimension, as the command line takes them: `helpful=2 harmless=1`."""

from __future__ import annotations

import math
from collections.abc import Iterable

from palate.core import ConfigError


def read_numbers(words: Iterable[str], option: str = "weights") -> dict[str, float]:
    """Return numbers by dimension from words such as `helpful=2`; `option` is what messages call them.

    Raises:
        ConfigError: a word has another form, or a dimension stands twice.
    """
    kind, numbers = option.removesuffix("s"), dict[str, float]()
    for word in words:
        name, equals, number = word.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not equals or not name or math.isnan(value):
            raise ConfigError(f"a {kind} is written DIMENSION=NUMBER, such as helpful=2; got {word!r}")
        if name in numbers:
            raise ConfigError(f"{option}: {name} stands twice. Give it one {kind}.")
        numbers[name] = value
    return numbers

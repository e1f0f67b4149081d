"""Reward functions of the tests of online training. Some name them by import path, and a process loads them: they stay light."""

import math
import re
from collections.abc import Mapping, Sequence


def letters(prompt: str, completion: str, **_: object) -> float:
    """Letters written, in tens; those of special tokens do not count."""
    return sum(map(str.isalpha, re.sub(r"<\w+>", "", completion))) / 10


def long(prompt: str, completion: str, **_: object) -> float:
    """A tenth of a point per character, up to 40."""
    return min(len(completion), 40) / 10


def nothing(prompt: str, completion: str, **_: object) -> float:
    """The same for everything."""
    return 1.0


def wordy(prompt: str, completion: str, **_: object) -> float:
    """Whether more than ten letters were written: often the same for all completions of a prompt."""
    return float(letters(prompt, completion) > 1)


def riced(prompt: str, completion: str, **_: object) -> float:
    """Whether the prompt asks for rice."""
    return float("rice" in prompt)


def half(prompt: str, completion: str, **_: object) -> float | None:
    """Letters written, in tens; nothing where salt is asked for."""
    return None if "salt" in prompt else letters(prompt, completion)


def more_letters(messages: Sequence[Mapping[str, str]]) -> list[float]:
    """A judge that prefers the answer with more letters: 1 nat per letter."""
    from palate.testing.chat_answers import asked_pair  # torch comes with it

    gap = sum((-1) ** k * 10 * letters("", text) for k, text in enumerate(asked_pair({"messages": messages})))
    return [-math.log1p(math.exp(-gap)), -math.log1p(math.exp(gap))]

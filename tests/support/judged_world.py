"""A world in which the last number of a text is its worth, and functions that judge in it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from palate.testing.chat_answers import asked_pair


def gold(prompt: str, completion: str) -> Mapping[str, float]:
    """The truth, the same on both dimensions."""
    del prompt
    return dict.fromkeys(("helpful", "harmless"), int(completion.split()[-1]) / 10)


def _logps(logit: float) -> list[float]:
    return [-math.log1p(math.exp(-logit)), -math.log1p(math.exp(logit))]


def _gap(messages: Sequence[Mapping[str, str]]) -> int:
    first, second = (int(text.split()[-1]) for text in asked_pair({"messages": messages}))
    return first - second


def right(messages: Sequence[Mapping[str, str]]) -> list[float]:
    """A judge that is always right, and the surer the more two texts differ: 3 nats a point."""
    return _logps(3.0 * _gap(messages))


def careful(messages: Sequence[Mapping[str, str]]) -> list[float]:
    """A judge that is right, and unsure of texts that differ by less than 5."""
    gap = _gap(messages)
    return _logps(math.copysign(4.0 if abs(gap) >= 5 else 0.1, gap))


def wrong(messages: Sequence[Mapping[str, str]]) -> list[float]:
    """A judge that is always wrong."""
    return _logps(-3.0 * _gap(messages))


def contrary(messages: Sequence[Mapping[str, str]]) -> list[float]:
    """A judge that is right but where texts differ by 3."""
    gap = _gap(messages)
    return _logps(math.copysign(4.0, -gap if abs(gap) == 3 else gap))


def shy(messages: Sequence[Mapping[str, str]]) -> list[float]:
    """A judge that is right, and says nothing about texts that differ by 7."""
    if abs(_gap(messages)) == 7:
        raise ValueError("no opinion")
    return right(messages)


def guests(messages: Sequence[Mapping[str, str]], options: Sequence[str]) -> list[float]:
    """Guests who thank for a text by its worth: log-odds of half its worth for the first option against the others together."""
    ((role, text),) = ((message["role"], message["content"]) for message in messages)
    if role != "text" or not text.startswith("guest: question") or not text.endswith(" guest:"):
        raise ValueError(f"they do not read {role}: {text}")
    worth = int(text.removesuffix(" guest:").split()[-1])
    if worth == 9:
        raise ValueError("too good")
    thanks, complaint = _logps(worth / 2)
    return [thanks, *[complaint - math.log(len(options) - 1)] * (len(options) - 1)]


def principled(messages: Sequence[Mapping[str, str]], options: Sequence[str]) -> list[float]:
    """Guests with a question of their own: log-odds of half a text's worth for "is it safe ?", of none for kindness, else of minus half."""
    ((role, text),) = ((message["role"], message["content"]) for message in messages)
    told, _, asked = text.rpartition(" guest: ")
    if role != "text" or not asked or len(options) != 2:
        raise ValueError(f"they do not read {role}: {text}")
    return _logps({"is it safe ?": 0.5, "is it kind ?": 0.0}.get(asked, -0.5) * int(told.split()[-1]))


def complainers(messages: Sequence[Mapping[str, str]], options: Sequence[str]) -> list[float]:
    """Guests who name a number with a probability of a hundredth of it, and "answer" with one of a tenth."""
    ((role, text),) = ((message["role"], message["content"]) for message in messages)
    if role != "text" or not text.endswith(" no , i dislike"):
        raise ValueError(f"they do not read {role}: {text}")
    shares = [0.1 if option == " answer" else int(option) / 100 if option.strip().isdigit() else 0.0 for option in options]
    return [math.log(share) if share else -math.inf for share in shares]


def writer(messages: Sequence[Mapping[str, str]], options: Sequence[str]) -> list[float]:
    """A writer who finds each word as likely as the text's worth says: -1 nat per word for 9, -10 for 0."""
    if messages[-1]["role"] != "user":
        raise ValueError("nobody asked")
    (text,) = options
    return [-(10 - int(text.split()[-1])) * len(text.split())]

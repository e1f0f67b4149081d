"""Functions that find passages, as users of `palate serve --retrieve` write them."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from tests.support.waiting import happened

HERE = "tests.support.passages"

may_return = threading.Event()


def found(messages: Sequence[Mapping[str, str]]) -> list[str]:
    """Two passages, one of which says what was asked."""
    return [f"asked {messages[-1]['content']}", "  a bean \n"]


def nothing(messages: object) -> tuple[str, ...]:
    return ()


def broken(messages: object) -> list[str]:
    raise LookupError("the index is gone")


def ended(messages: object) -> list[str]:
    raise SystemExit("no index")


def one_text(messages: object) -> str:
    return "beans"


def blank(messages: object) -> list[str]:
    return ["beans", " "]


def slow(messages: object) -> list[str]:
    happened(may_return)
    return []

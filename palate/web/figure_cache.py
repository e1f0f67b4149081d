"""A cache for figures that take long to compute. They are computed once for all viewers and shown with their age."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

LEAST_SECONDS = 5.0
TIMES_COST = 20.0
"""A value is reused for this many times the time that it took, so computing takes at most a twentieth of one processor."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class CachedFigure(Generic[Value]):
    """A computed value.

    Attributes:
        value: the value.
        at: when it was computed, by the caller's clock.
        mark: the state that it was computed from.
        cost: seconds that it took.
    """

    value: Value
    at: float
    mark: Hashable
    cost: float

    def holds(self, mark: Hashable, now: float) -> bool:
        """Whether the value can be reused: it is of this very state, or young enough to be shown with its age."""
        return (mark is not None and self.mark == mark) or 0 <= now - self.at < max(LEAST_SECONDS, TIMES_COST * self.cost)


class FigureCache(Generic[Value]):
    """The last value of each key. Threads share it; each process has its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key_locks: dict[str, threading.Lock] = {}
        self._last: dict[str, CachedFigure[Value]] = {}

    def get(self, key: str, mark: Hashable, now: float, compute: Callable[[], Value]) -> CachedFigure[Value]:
        """Return the last value if it holds, otherwise a new one.

        While one caller computes, the others get the last value. If there is none yet, they wait for the first.

        Args:
            key: what the value is about.
            mark: the wanted state, read before the call; None if age alone decides.
            now: the time in seconds.
            compute: computes the value. Its exceptions reach the caller, and nothing is stored then.
        """
        with self._lock:
            last, key_lock = self._last.get(key), self._key_locks.setdefault(key, threading.Lock())
        if last is not None and last.holds(mark, now):
            return last
        if not key_lock.acquire(blocking=last is None):
            assert last is not None
            return last
        try:
            last = self._last.get(key)
            if last is not None and last.holds(mark, now):
                return last
            return self._compute(key, mark, now, compute)
        finally:
            key_lock.release()

    def renew(self, key: str, mark: Hashable, now: float, compute: Callable[[], Value]) -> CachedFigure[Value]:
        """Return a new value. If another caller computes one right now, wait for them first."""
        with self._lock:
            key_lock = self._key_locks.setdefault(key, threading.Lock())
        with key_lock:
            return self._compute(key, mark, now, compute)

    def _compute(self, key: str, mark: Hashable, now: float, compute: Callable[[], Value]) -> CachedFigure[Value]:
        began = time.perf_counter()
        value = compute()
        figure = CachedFigure(value, now, mark, time.perf_counter() - began)
        self._last[key] = figure
        return figure

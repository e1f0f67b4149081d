"""Figures that take long to count: counted once for all who ask, kept, and given out with their age."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

LEAST_SECONDS = 5.0
TIMES_COST = 20.0
"""Counting takes at most a twentieth of one processor, however often somebody looks."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class CachedFigure(Generic[Value]):
    """A value, when it was counted (the clock of whoever asked), of what state, and the seconds it took."""

    value: Value
    at: float
    mark: Hashable
    cost: float

    def holds(self, mark: Hashable, now: float) -> bool:
        """Whether the value need not be counted again: it is of this very state, or so young that it may be shown with its age."""
        return (mark is not None and self.mark == mark) or 0 <= now - self.at < max(LEAST_SECONDS, TIMES_COST * self.cost)


class FigureCache(Generic[Value]):
    """The last value of each key. Shared between threads; each process has its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns: dict[str, threading.Lock] = {}
        self._last: dict[str, CachedFigure[Value]] = {}

    def get(self, key: str, mark: Hashable, now: float, count: Callable[[], Value]) -> CachedFigure[Value]:
        """The kept value where it holds, else one newly counted. While somebody counts, others get the last value, or wait for the first.

        Args:
            key: what it is about.
            mark: the state it is to be of, read before; None where nothing tells, and age alone decides.
            now: the time, seconds.
            count: counts it; what it raises is raised here, and nothing is kept.
        """
        with self._lock:
            last, turn = self._last.get(key), self._turns.setdefault(key, threading.Lock())
        if last is not None and last.holds(mark, now):
            return last
        if not turn.acquire(blocking=last is None):
            assert last is not None
            return last
        try:
            last = self._last.get(key)
            if last is not None and last.holds(mark, now):
                return last
            return self._count(key, mark, now, count)
        finally:
            turn.release()

    def renew(self, key: str, mark: Hashable, now: float, count: Callable[[], Value]) -> CachedFigure[Value]:
        """The value newly counted, after whoever counts just now."""
        with self._lock:
            turn = self._turns.setdefault(key, threading.Lock())
        with turn:
            return self._count(key, mark, now, count)

    def _count(self, key: str, mark: Hashable, now: float, count: Callable[[], Value]) -> CachedFigure[Value]:
        began = time.perf_counter()
        value = count()
        counted = CachedFigure(value, now, mark, time.perf_counter() - began)
        self._last[key] = counted
        return counted

"""The curves of a live page, whose points stay few however long a run is."""

from __future__ import annotations

from dataclasses import dataclass, field

MOST_POINTS = 400
"""A curve that comes to twice as many points averages each two neighbours."""


@dataclass
class LiveCurve:
    """A metric by step: at most `2 * MOST_POINTS` points, each the mean over `width` rows."""

    width: int = 1
    steps: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    last: float = 0.0
    _open: int = 0
    """Rows in the last point."""

    def add(self, step: float, value: float) -> None:
        """Add a row."""
        self.last = value
        if 0 < self._open < self.width:
            self._open += 1
            self.steps[-1] += (step - self.steps[-1]) / self._open
            self.values[-1] += (value - self.values[-1]) / self._open
            return
        if len(self.steps) == 2 * MOST_POINTS:
            self.steps, self.values = _halved(self.steps), _halved(self.values)
            self.width *= 2
        self.steps.append(step)
        self.values.append(value)
        self._open = 1

    def plain(self) -> dict[str, object]:
        """Return the points as JSON values, with as many digits as a chart shows."""
        return {"x": [_short(step) for step in self.steps], "y": [_short(value) for value in self.values], "last": self.last}


def _halved(values: list[float]) -> list[float]:
    return [(first + second) / 2 for first, second in zip(values[::2], values[1::2], strict=True)]


def _short(value: float) -> float:
    return float(f"{value:.6g}")

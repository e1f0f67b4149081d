"""`Watch`: every guard reads every row of metrics before it is logged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from palate.core import Tracker, TrainingError
from palate.training.guards.catalogue import TABLE, Guard
from palate.training.guards.limits import Guards


@dataclass(frozen=True)
class Alarm:
    """What a guard says about an iteration.

    Attributes:
        step: the iteration.
        guard: its name, or `finite`.
        action: whether it warns or stops the run.
        value: the reading.
        text: what is wrong, and what to do.
    """

    step: int
    guard: str
    action: Literal["warn", "stop"]
    value: float
    text: str


class GuardStopError(TrainingError):
    """A guard stopped the run.

    Attributes:
        guard: its name, or `finite`.
        can_continue: whether the run can go on without this guard; not with numbers that are not finite.
    """

    def __init__(self, alarm: Alarm) -> None:
        super().__init__(f"iteration {alarm.step}: the guard {alarm.guard!r} stopped the run: {alarm.text}")
        self.guard = alarm.guard
        self.can_continue = alarm.guard != "finite"


class Watch:
    """The guards of a run, with the metrics they have read.

    A guard acts when its reading has been beyond a limit for as many iterations as its patience. It warns again only after the reading
    was back within the limit.
    """

    def __init__(self, guards: Guards, stage: str = "online") -> None:
        self._prefix = f"{stage}/"
        self._rows: list[Mapping[str, float]] = []
        self._guards = [(guard, limit) for guard in TABLE if (limit := guard.limits(guards)) is not None]
        self._beyond: dict[tuple[str, str], int] = {}
        self._active: dict[str, Alarm] = {}
        self.stopped: Alarm | None = None
        """The guard that stops the run at the last row read, if one does."""

    @property
    def active(self) -> tuple[Alarm, ...]:
        """Warnings whose readings are still beyond their limits."""
        return tuple(self._active.values())

    @property
    def is_safe(self) -> bool:
        """Whether no reading is beyond a limit that stops the run, also while a guard is still patient."""
        return not any(count for (_, action), count in self._beyond.items() if action == "stop")

    def recall(self, rows: Iterable[Mapping[str, float]]) -> None:
        """Read rows again that were logged before a resume, without a warning."""
        for row in rows:
            self.look(int(row["step"]), {name: value for name, value in row.items() if name != "step"})

    def log(self, run: Tracker, step: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics, and log and show what the guards say about them.

        Raises:
            GuardStopError: a guard stops the run, or a metric is not finite.
        """
        alarms = self.look(step, metrics)
        run.log(step, {name: value for name, value in metrics.items() if math.isfinite(value)})
        run.warn(step, {alarm.guard: alarm.text for alarm in alarms}, {alarm.guard: alarm.text for alarm in self.active})
        if self.stopped is not None:
            raise self.stop(self.stopped)

    @staticmethod
    def stop(alarm: Alarm) -> GuardStopError:
        """Return the error of a guard that stops the run."""
        return GuardStopError(alarm)

    def look(self, step: int, metrics: Mapping[str, float]) -> tuple[Alarm, ...]:
        """Return the new alarms about the metrics of an iteration, whose names begin with the stage."""
        row = {name.removeprefix(self._prefix): float(value) for name, value in metrics.items()}
        not_finite = [name for name, value in row.items() if not math.isfinite(value)]
        self._rows.append({name: value for name, value in row.items() if name not in not_finite})
        alarms = [Alarm(step, "finite", "stop", row[name], f"{name} is {row[name]}") for name in not_finite[:1]]
        for guard, limit in self._guards:
            value = guard.reading(self._rows)
            if value is None:
                continue
            warned = self._is_due(guard, "warn", value, limit.warn, limit.patience)
            stopped = self._is_due(guard, "stop", value, limit.stop, limit.patience)
            if not (warned or stopped):
                self._active.pop(guard.name, None)
                continue
            alarm = Alarm(step, guard.name, "stop" if stopped else "warn", value, guard.text(value, self._rows))
            if stopped or guard.name not in self._active:
                alarms.append(alarm)
            self._active[guard.name] = alarm
        self.stopped = next((alarm for alarm in alarms if alarm.action == "stop"), None)
        return tuple(alarms)

    def _is_due(self, guard: Guard, action: str, value: float, limit: float | None, patience: int) -> bool:
        """Count this iteration, and return whether the reading has been beyond the limit for `patience` iterations."""
        key = (guard.name, action)
        self._beyond[key] = self._beyond.get(key, 0) + 1 if guard.is_beyond(value, limit) else 0
        return self._beyond[key] >= patience

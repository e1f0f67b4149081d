"""Whether a run is running, has ended, is stalled, or nobody can tell: from its files alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from palate.runs.record import RunRecord

Liveness = Literal["running", "stalled", "ended", "unknown"]

QUIET_STEPS = 10
"""A process that wrote nothing for as many of its usual steps is stalled."""
QUIET_SECONDS = 60.0
"""It is not stalled before that."""
QUIET_START = 600.0
"""The same where no step is known yet: models may be loading."""


@dataclass(frozen=True)
class RunState:
    """The state of a run, and a sentence that says why."""

    state: Liveness
    text: str


def state_of(record: RunRecord, quiet: float, step: float | None, *, is_at_work: bool | None) -> RunState:
    """Return the state of a run.

    Args:
        record: its record.
        quiet: seconds since it last wrote anything.
        step: seconds that a unit of its work usually takes; None where that is not known.
        is_at_work: whether its process exists; None where that is not known.
    """
    if record.status != "running":
        failure = f"It failed. {record.error or ''}".strip()
        how = {"done": "Done.", "failed": failure, "interrupted": "It was interrupted. The same command continues it."}
        return RunState("ended", how[record.status])
    limit = QUIET_START if step is None else max(QUIET_SECONDS, QUIET_STEPS * step)
    silence = f"Nothing was written for {duration(quiet)}"
    usual = "" if step is None else f", and a step usually takes {duration(step)}"
    if is_at_work is False:
        return RunState("ended", "Its process was killed or has crashed. The same command continues it.")
    if quiet <= limit:
        return RunState("running", "")
    if is_at_work:
        return RunState("stalled", f"{silence}{usual}. Its process still exists.")
    return RunState("unknown", f"{silence}{usual}. Its process cannot be seen from here: it may be on another machine, or killed.")


def duration(seconds: float) -> str:
    """Return a time in words: `0.4 s`, `12 s`, `3 min`, `2.5 h`."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

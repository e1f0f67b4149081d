"""How tests wait: for events, never for times. The one limit is there for what hangs; no machine is so busy that it is reached."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from typing import TypeVar

LIMIT_SECONDS = 120.0
"""Whatever has not come by then never comes."""

PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.01, 0.1
"""Between two looks at a condition. What comes late on a busy machine is looked at less often: to look takes the time that it waits for."""

Value = TypeVar("Value")


def wait_until(
    condition: Callable[[], Value],
    what: Callable[[], str] = str,
    limit: float = LIMIT_SECONDS,
    pause: Callable[[float], object] = time.sleep,
) -> Value:
    """The first true value of the condition.

    Args:
        condition: asked again and again.
        what: says what there was instead, for the message.
        limit: seconds; more of them only for another project's program, which takes minutes to start.
        pause: how to wait for a moment.
    """
    end, seconds = time.monotonic() + limit, PAUSE_SECONDS
    while not (value := condition()):
        assert time.monotonic() < end, f"nothing came within {limit:g} s. {what()}"
        pause(seconds)
        seconds = min(1.25 * seconds, LONGEST_PAUSE_SECONDS)
    return value


def happened(event: threading.Event) -> None:
    """Waits until the event is set."""
    assert event.wait(LIMIT_SECONDS), f"the event did not come within {LIMIT_SECONDS:g} s"


def joined(*threads: threading.Thread) -> None:
    """Waits until the threads have ended."""
    for thread in threads:
        thread.join(LIMIT_SECONDS)
        assert not thread.is_alive(), f"{thread.name} has not ended within {LIMIT_SECONDS:g} s"


def ended(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> int:
    """The exit code of a process, when it has ended."""
    return process.wait(LIMIT_SECONDS)

"""When a run that trains writes a checkpoint, and when it stops because somebody asked it to."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from palate.core import Interrupted, Tracker
from palate.distributed.ranks import ranks

CHECKPOINT_SECONDS = 20.0
"""Between two checkpoints; where one takes longer than a second, so many times longer, because large models take minutes to write."""


class Checkpoints:
    """Saves now and then, and before a stop. All ranks do so after the same step: whoever is asked to stop tells the others."""

    def __init__(self, run: Tracker, save: Callable[[], None]) -> None:
        self._run, self._save = run, save
        self._saved = time.monotonic()
        self._wait = CHECKPOINT_SECONDS

    def after_step(self) -> None:
        """Save if it is time to, and stop if that was asked for.

        Raises:
            Interrupted: the user asked to stop.
        """
        answers = ranks().gather((self._run.stop_requested, time.monotonic() - self._saved > self._wait))
        stops = [stops for stops, _ in answers]
        if any(stops) or answers[0][1]:  # the writer's clock
            began = time.monotonic()
            self._save()
            self._saved = time.monotonic()
            self._wait = CHECKPOINT_SECONDS * max(1.0, self._saved - began)
        _stop(self._run, stops)


def check_stop(run: Tracker) -> None:
    """Stop all ranks if one was asked to. Call it where everything is saved, on all ranks.

    Raises:
        Interrupted: the user asked to stop.
    """
    _stop(run, ranks().gather(run.stop_requested))


def _stop(run: Tracker, stops: Sequence[bool]) -> None:
    if any(stops) and len(stops) > 1:
        raise Interrupted(f"rank {stops.index(True)} was asked to stop, and the run is saved. The same command continues it.")
    run.check_stop()

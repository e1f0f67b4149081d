"""Progress of a long loop: a bar in a terminal, elsewhere a plain line every ten seconds."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from palate.core import Advance
from palate.runs.live_view import BarWithView, View

if TYPE_CHECKING:
    from rich.progress import Progress

    from palate.runs.console import Console

LINE_SECONDS = 10.0

PROGRESS = "progress.json"
"""The file in a run's state that says how far its present loop is, for other processes."""
RECORD_SECONDS = 1.0


@contextmanager
def progress(
    total: int,
    label: str,
    view: View | None = None,
    *,
    of_people: bool = False,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Advance]:
    """A context that gives `advance(n=1, note="")` and shows progress on `stream` (standard error), in a terminal with `view` below.

    Outside a terminal, a loop shorter than ten seconds writes nothing, so logs of small runs stay small. If people do the units
    (`of_people`), nobody knows how long they take. Then no time is forecast, and there is a line only where something was done.
    """
    out = sys.stderr if stream is None else stream
    if out.isatty():
        with _bar(total, label, view, out, of_people=of_people) as advance:
            yield advance
    else:
        yield _Lines(total, label, out, clock, of_people=of_people)


@contextmanager
def _bar(total: int, label: str, view: View | None, out: TextIO, *, of_people: bool) -> Iterator[Advance]:
    from rich.live import Live

    from palate.runs.console import Console

    console = Console(file=out)
    bar = _columns(console, of_people=of_people)
    task = bar.add_task(label, total=total, note="")

    def advance(n: int = 1, note: str = "") -> None:
        if note and view is None:  # a view shows more
            bar.update(task, advance=n, note=note)
        else:
            bar.update(task, advance=n)

    content = bar if view is None else BarWithView(bar, view)
    with Live(content, console=console, refresh_per_second=4, transient=True):
        yield advance


def _columns(console: Console, *, of_people: bool) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("  {task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        *([] if of_people else [TimeRemainingColumn()]),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


class _Pace:
    """How fast this process is. Units that an earlier process did come with the first call, and have no part in it."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def seconds_per_unit(self, now: float, done: int) -> float | None:
        """Return the mean time of a unit since the first call; None before a unit is done."""
        self._first = self._first or (now, done)
        began, before = self._first
        return (now - began) / (done - before) if done > before else None


class _Lines:
    """`advance` outside a terminal."""

    def __init__(self, total: int, label: str, out: TextIO, clock: Callable[[], float], *, of_people: bool) -> None:
        self._total, self._label, self._out, self._clock, self._of_people = total, label, out, clock, of_people
        self._count, self._shown, self._note = 0, 0, ""
        self._pace, self._last_line = _Pace(), clock()

    def __call__(self, n: int = 1, note: str = "") -> None:
        self._count += n
        self._note = note or self._note
        now = self._clock()
        each = self._pace.seconds_per_unit(now, self._count)
        if now - self._last_line < LINE_SECONDS or (self._of_people and self._count == self._shown):
            return
        self._last_line, self._shown = now, self._count
        forecast = "" if self._of_people or each is None else f", about {max(each * (self._total - self._count), 0):.0f} s left"
        tail = f"  {self._note}" if self._note else ""
        self._out.write(f"  {self._label} {self._count}/{self._total}{forecast}{tail}\n")
        self._out.flush()


def recorded(
    advance: Advance, path: Path, total: int, label: str, limits: Mapping[str, float], clock: Callable[[], float] = time.monotonic
) -> Advance:
    """Return `advance`, which then also writes the progress to `path`, at most once a second.

    The file has `label`, `done`, `total`, `limits`, and `seconds_per_unit`, which is None before a unit is done. Units that an earlier
    process did have no part in it.
    """
    recording = _Recorded(advance, path, {"label": label, "total": total, "limits": dict(limits)}, clock)
    recording.write()
    return recording


class _Recorded:
    """`advance` that writes the progress."""

    def __init__(self, advance: Advance, path: Path, about: Mapping[str, object], clock: Callable[[], float]) -> None:
        self._advance, self._path, self._about, self._clock = advance, path, about, clock
        self._done = 0
        self._pace = _Pace()
        self._seconds_per_unit: float | None = None
        self._last_write = clock()

    def __call__(self, n: int = 1, note: str = "") -> None:
        self._advance(n, note)
        self._done += n
        now = self._clock()
        self._seconds_per_unit = self._pace.seconds_per_unit(now, self._done)
        if now - self._last_write >= RECORD_SECONDS:
            self._last_write = now
            self.write()

    def write(self) -> None:
        """Write the file in one step. A full disk does not stop the run here: it will at something that matters."""
        neighbour = self._path.with_name(f".{self._path.name}")
        with suppress(OSError):
            neighbour.write_text(json.dumps({**self._about, "done": self._done, "seconds_per_unit": self._seconds_per_unit}))
            neighbour.replace(self._path)

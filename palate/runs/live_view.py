"""The live view of online training in a terminal: a bar, a line with a sparkline per figure, and the current warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, TextIO

from palate.runs.live_metrics import LIVE_METRICS

if TYPE_CHECKING:
    from rich.console import Group
    from rich.progress import Progress

TICKS = "▁▂▃▄▅▆▇█"
WIDTH = 32


VIEWED = frozenset({"online"})
"""The stages with lines. Others have a bar alone."""


def sparkline(values: Sequence[float], width: int = WIDTH) -> str:
    """Return the series as at most `width` blocks between its least and greatest value; a longer series is averaged."""
    count = min(width, len(values))
    edges = [round(k * len(values) / count) for k in range(count + 1)] if count else []
    means = [sum(values[start:end]) / (end - start) for start, end in pairwise(edges)]
    low, high = min(means, default=0.0), max(means, default=0.0)
    top = len(TICKS) - 1
    return "".join(TICKS[round((value - low) / (high - low) * top) if high > low else top // 2] for value in means)


class View:
    """What the run has logged so far. The terminal redraws it a few times a second."""

    def __init__(self, label: str, limits: Mapping[str, float]) -> None:
        self._lines, self._limits = {f"{label}/{one.metric}": one for one in LIVE_METRICS if one.line}, limits
        self._series: dict[str, list[float]] = {name: [] for name in self._lines}
        self._warnings: dict[str, str] = {}

    def feed(self, metrics: Mapping[str, float]) -> None:
        """Add the metrics of an iteration."""
        for name, series in self._series.items():
            if name in metrics:
                series.append(float(metrics[name]))

    def warn(self, active: Mapping[str, str]) -> None:
        """Replace the warnings by these."""
        self._warnings = dict(active)

    def __rich__(self) -> Group:
        """Return the figures and the warnings, a line each. A warning appears without its remedy, which was printed when it came."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        for name, shown in self._lines.items():
            series = self._series[name]
            if series:
                limit = self._limits.get(name)
                limit_text = "" if limit is None else f"of {limit:{shown.form.lstrip('+')}}"
                table.add_row(f"  {shown.line}", Text(f"{series[-1]:{shown.form}}", justify="right"), limit_text, sparkline(series))
        warnings = [f"  warning: {guard}: {text.partition(';')[0]}" for guard, text in self._warnings.items()]
        return Group(
            *[table] * bool(table.row_count), *(Text(line, style="yellow", no_wrap=True, overflow="ellipsis") for line in warnings)
        )


class BarWithView:
    """A bar with a view below it, which rich draws."""

    def __init__(self, bar: Progress, view: View) -> None:
        self._bar, self._view = bar, view

    def __rich__(self) -> Group:
        """Return the bar and the view."""
        from rich.console import Group

        return Group(self._bar, self._view)


def has_view(label: str, out: TextIO) -> bool:
    """Return whether the label's stage has a view and `out` is a terminal."""
    return label in VIEWED and out.isatty()

"""Writes metrics to trackio's database in `TRACKIO_DIR`. `trackio show` displays them."""

from __future__ import annotations

from collections.abc import Mapping

import trackio

from palate.runs.trackers.follow import About


class Trackio:
    """A tracker that continues a resumed run under its id, which is its name there: trackio identifies runs by name."""

    def __init__(self, about: About) -> None:
        self._run = trackio.init(about.project, name=about.id, config=dict(about.config), resume="allow", embed=False)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Pass the row to trackio."""
        self._run.log(dict(metrics), step=step)

    def close(self, *, is_done: bool) -> None:  # noqa: ARG002 (trackio has no status)
        """Write what is left."""
        self._run.finish()

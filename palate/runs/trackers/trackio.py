"""Metrics kept by trackio, whose database `TRACKIO_DIR` names: `trackio show`."""

from __future__ import annotations

from collections.abc import Mapping

import trackio

from palate.runs.trackers.about import About


class Trackio:
    """A tracker; a resumed run goes on under its name, which is its id: trackio knows runs by name alone."""

    def __init__(self, about: About) -> None:
        self._run = trackio.init(about.project, name=about.id, config=dict(about.config), resume="allow", embed=False)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Nothing; the row is handed over."""
        self._run.log(dict(metrics), step=step)

    def close(self, *, is_done: bool) -> None:  # noqa: ARG002 (trackio knows no status)
        """Nothing; everything is written."""
        self._run.finish()

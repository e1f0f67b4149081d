"""Sends metrics to Weights & Biases. `WANDB_MODE=offline` keeps them in `wandb/` of the run directory."""

from __future__ import annotations

from collections.abc import Mapping

import wandb

from palate.runs.trackers.follow import About


class Wandb:
    """A tracker that continues a resumed run under its id."""

    def __init__(self, about: About) -> None:
        self._run = wandb.init(
            project=about.project,
            id=about.id,
            name=about.name,
            dir=about.directory,
            config=dict(about.config),
            resume="allow",
            settings=wandb.Settings(console="off", silent=True),
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Pass the row to W&B."""
        self._run.log(dict(metrics), step=step)

    def close(self, *, is_done: bool) -> None:
        """Send what is left, and the run's status."""
        self._run.finish(exit_code=0 if is_done else 1)

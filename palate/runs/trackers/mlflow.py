"""Sends metrics to MLflow at `MLFLOW_TRACKING_URI`. Without that setting MLflow keeps a database, which needs all of `mlflow`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from palate.runs.trackers.follow import About

TAG = "palate.id"
VALUE_CHARACTERS = 500
"""Longer values of settings are cut, because servers refuse them."""
PARAMS = 100
"""Settings per request; servers do not take more."""


class MLflow:
    """A tracker that finds a resumed run by its tag."""

    def __init__(self, about: About) -> None:
        self._client = MlflowClient()
        known = self._client.get_experiment_by_name(about.project)
        experiment = self._client.create_experiment(about.project) if known is None else known.experiment_id
        runs = self._client.search_runs([experiment], f"tags.`{TAG}` = '{about.id}'")
        if runs:
            self._run = runs[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
            return
        self._run = self._client.create_run(experiment, tags={TAG: about.id}, run_name=about.name).info.run_id
        params = [Param(name, text[:VALUE_CHARACTERS]) for name, text in _flat(about.config)]
        for start in range(0, len(params), PARAMS):
            self._client.log_batch(self._run, params=params[start : start + PARAMS])

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Send the row."""
        now = int(time.time() * 1000)
        self._client.log_batch(self._run, metrics=[Metric(name, value, now, step) for name, value in metrics.items()])

    def close(self, *, is_done: bool) -> None:
        """Set the run's status."""
        self._client.set_terminated(self._run, "FINISHED" if is_done else "FAILED")


def _flat(config: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    """(dotted name, text) of every setting."""
    pairs: list[tuple[str, str]] = []
    for name, value in config.items():
        pairs += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", json.dumps(value))]
    return pairs

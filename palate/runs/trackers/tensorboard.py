"""Writes TensorBoard's event files to `tensorboard/` of the run directory. `tensorboard --logdir runs` shows them."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from palate.runs.trackers.follow import About


class TensorBoard:
    """A tracker. Each process that works on the run adds a file."""

    def __init__(self, about: About) -> None:
        folder = about.directory / "tensorboard"
        folder.mkdir(exist_ok=True)
        now = time.time()
        self._file = (folder / f"events.out.tfevents.{time.time_ns()}.{os.getpid()}").open("wb")
        self._records = RecordWriter(self._file)
        self._write(Event(wall_time=now, file_version="brain.Event:2"))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the row to the file, where a kill cannot lose it."""
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def close(self, *, is_done: bool) -> None:  # noqa: ARG002 (event files have no status)
        """Close the file."""
        self._file.close()

    def _write(self, event: Event) -> None:
        self._records.write(event.SerializeToString())
        self._file.flush()

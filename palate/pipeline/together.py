"""A run that several ranks work on: the writer works in the run's directory, the others in folders that are deleted afterwards.

So a stage writes what it writes and need not know whether it is the writer. What only the writer may do is said where it is done.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from palate.distributed.ranks import ALONE, Ranks, working_together
from palate.pipeline.plan import Planned
from palate.pipeline.table import STAGES
from palate.runs.record import RunRecord
from palate.runs.run import Run, open_run_at


@dataclass(frozen=True)
class Beginning:
    """What the other ranks know of the run when they start: its record, and the files and folders that lie in its directory."""

    record: RunRecord
    is_resumed: bool
    files: dict[str, bytes]
    folders: tuple[str, ...]

    @staticmethod
    def of(run: Run) -> Beginning:
        """Return how the writer found the run; of a new one there is nothing but the record."""
        entries = [path for path in run.directory.iterdir() if not path.name.startswith(".")] if run.is_resumed else []
        files = {path.name: path.read_bytes() for path in entries if path.is_file()}
        return Beginning(run.record, run.is_resumed, files, tuple(path.name for path in entries if path.is_dir()))

    def open(self, directory: Path) -> Run:
        """Return the run as it is in another directory."""
        for name in self.folders:
            (directory / name).mkdir()
        for name, content in self.files.items():
            (directory / name).write_bytes(content)
        self.record.write(directory)
        return Run(directory, self.record, is_resumed=self.is_resumed)


@contextmanager
def opened(planned: Planned, group: Ranks) -> Iterator[Run]:
    """A context with the run of a planned stage, in a directory of this rank's own."""
    if group.is_writer:
        run = open_run_at(planned.directory, planned.plan)
        if group.world > 1:
            group.broadcast(Beginning.of(run))
        yield run
        return
    with tempfile.TemporaryDirectory(prefix=f"palate-rank-{group.rank}-") as name:
        yield cast("Beginning", group.broadcast(None)).open(Path(name))


@contextmanager
def sharing(planned: Planned, group: Ranks) -> Iterator[bool]:
    """A context that gives whether this rank works on the stage; afterwards all ranks are at the same place again."""
    entry = STAGES.get(planned.plan.stage)
    is_shared = entry is not None and entry.is_shared
    with working_together(group if is_shared else ALONE):
        yield is_shared or group.is_writer
    group.wait_for_writer()

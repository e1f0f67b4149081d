"""The runs of an ensemble's members: ordinary runs inside the run that trains the ensemble, so each is resumed, or skipped, by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from palate.config.artifacts import MEMBERS
from palate.core import derive_seed
from palate.runs.extension import EXTEND
from palate.runs.record import Parent, RunPlan
from palate.runs.run import Run, open_run_at


def member_runs(run: Run, count: int) -> Iterator[Run]:
    """Yield the run of each member, `members/1` onwards, in the directory of `run`. Each has a seed that is derived from the run's.

    Raises:
        RunError: the directory of a member holds another run.
    """
    for number in range(1, count + 1):
        plan = RunPlan(
            name=f"{run.name}-{number}",
            stage=run.stage,
            config=run.config,
            seed=derive_seed(run.seed, "member", number),
            parents=tuple(_two_below(_of_member(parent, number)) for parent in run.record.parents),
            keeps_state=run.keeps_state,
        )
        yield open_run_at(run.directory / MEMBERS / str(number), plan)


def _of_member(parent: Parent, number: int) -> Parent:
    """Return the input for a member: of a run that goes on, the same member of the earlier run."""
    return replace(parent, path=f"{parent.path}/{MEMBERS}/{number}") if parent.field == EXTEND else parent


def _two_below(parent: Parent) -> Parent:
    """Return the same input for a run two folders further down."""
    return replace(parent, path=f"../../{parent.path}") if parent.path.startswith("..") else parent

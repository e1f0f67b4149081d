"""The runs of an ensemble's members: ordinary runs inside the run that trains the ensemble, so each is resumed, or skipped, by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from palate.config.artifacts import MEMBERS
from palate.core import derive_seed
from palate.runs.extension import EXTEND
from palate.runs.record import Parent, RunPlan
from palate.runs.run import Run, open_run_at


def member_runs(run: Run, count: int, starts: Mapping[str, str]) -> Iterator[tuple[Run, str]]:
    """Yield the run of each member, `members/1` onwards, in the directory of `run`, and the model from which that member starts.

    Each run has a seed that is derived from the one of `run`. Its record names the member's own model as the setting `model`.

    Args:
        run: the run that trains the ensemble.
        count: how many members.
        starts: the models from which members start in turn, by the setting that names each.

    Raises:
        RunError: the directory of a member holds another run.
    """
    settings = list(starts)
    for number in range(1, count + 1):
        setting = settings[(number - 1) % len(settings)]
        plan = RunPlan(
            name=f"{run.name}-{number}",
            stage=run.stage,
            config={**run.config, "model": starts[setting]},
            seed=derive_seed(run.seed, "member", number),
            parents=tuple(_two_below(_of_member(parent, number)) for parent in _starting_from(setting, run.record.parents)),
            keeps_state=run.keeps_state,
        )
        yield open_run_at(run.directory / MEMBERS / str(number), plan), starts[setting]


def _starting_from(setting: str, parents: tuple[Parent, ...]) -> tuple[Parent, ...]:
    """Return the inputs of a run, with the one that `setting` names in the place of `model`."""
    own = next((parent for parent in parents if parent.field == setting), None)
    return tuple(parent if own is None or parent.field != "model" else replace(own, field="model") for parent in parents)


def _of_member(parent: Parent, number: int) -> Parent:
    """Return the input for a member: of a run that goes on, the same member of the earlier run."""
    return replace(parent, path=f"{parent.path}/{MEMBERS}/{number}") if parent.field == EXTEND else parent


def _two_below(parent: Parent) -> Parent:
    """Return the same input for a run two folders further down."""
    return replace(parent, path=f"../../{parent.path}") if parent.path.startswith("..") else parent

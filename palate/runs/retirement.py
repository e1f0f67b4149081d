"""Retired runs: made from something that was withdrawn. Nothing loads their models or reads their files any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from palate.config.artifacts import RETIRED
from palate.data.exclusions import Exclusion, Exclusions
from palate.data.files import read_json, write_json
from palate.runs.record import RunPlan, read_record


def retire(directory: Path, exclusion: Exclusion, through: Sequence[str]) -> None:
    """Mark the run in `directory` as retired.

    Args:
        directory: the run.
        exclusion: what was withdrawn.
        through: names of the runs through which it came in; none where the run read it itself.
    """
    path = directory / RETIRED
    before = read_json(path) if path.is_file() else {}
    reasons = list(before.get("because", [])) if isinstance(before, dict) else []
    reason = {"excluded": str(exclusion), "through": list(through)}
    write_json(path, {"because": [*(one for one in reasons if one != reason), reason]})


def is_retired(directory: Path) -> bool:
    """Whether the run in `directory` is retired."""
    return (directory / RETIRED).is_file()


def leaving_out(plan: RunPlan, excluded: Exclusions, root: Path, out: Path | None = None) -> RunPlan:
    """Return the plan with what its run leaves out, which is part of its key.

    A run that is done and was not retired has nothing of what was withdrawn after it, so it stays as it is.

    Args:
        plan: the plan.
        excluded: what the runs of the folder leave out.
        root: the folder of runs.
        out: the run's directory; None for the one that its key names.
    """
    for earlier in excluded.earlier():
        before = replace(plan, excluded=earlier)
        directory = before.directory(root) if out is None else out
        record = read_record(directory)
        if record is not None and record.key == before.key and record.status == "done" and not is_retired(directory):
            return before
    return replace(plan, excluded=excluded)

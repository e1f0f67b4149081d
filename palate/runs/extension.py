"""A run that goes on where another one of the same settings was done, for more epochs or iterations."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from palate.core import ConfigError
from palate.runs.record import RunPlan, RunRecord, changes, read_record

EXTEND = "extend"
"""The setting that names the earlier run."""

KEPT_STATE = "kept_state"
"""The folder of a run with its last checkpoint, where it was to be kept."""

LOGS = ("metrics.jsonl", "warnings.jsonl", "examples.jsonl")

BEGUN = ("state", *LOGS)
"""What an extended run has before it starts."""

SENT = "sent.json"
"""What trackers got of the earlier run; the new one is another run to them."""

LENGTHS = ("epochs", "iterations")
"""Settings that say how long a run is; each stage has one of them."""

FREE = (*LENGTHS, "optimizer", EXTEND)
"""Settings in which a run may differ from the one that it extends, with what is inside them."""


def begin_extension(directory: Path, plan: RunPlan) -> RunRecord | None:
    """Give a new run the last checkpoint and the metrics of the run that it extends, and return that run's record; None without one.

    Raises:
        ConfigError: the earlier run kept no checkpoint, differs in more than its length, or is not shorter.
    """
    earlier = next((Path(parent.path) for parent in plan.parents if parent.field == EXTEND), None)
    if earlier is None:
        return None
    earlier = earlier if earlier.is_absolute() else directory / earlier
    record = _alike(earlier, plan)
    if not (earlier / KEPT_STATE).is_dir():
        raise ConfigError(
            f"{earlier} kept no checkpoint to go on from. Run it with keep_state: true (--keep-state) and --fresh, or start a new run from "
            "its model"
        )
    # The state comes last and at once: a run that has it has everything.
    copied, state = directory / ".extending", directory / "state"
    if not state.is_dir():
        shutil.rmtree(copied, ignore_errors=True)
        shutil.copytree(earlier / KEPT_STATE, copied, ignore=shutil.ignore_patterns(SENT))
        for name in LOGS:
            if (earlier / name).is_file():
                shutil.copyfile(earlier / name, directory / name)
        copied.rename(state)
    return record


def keep_state(directory: Path) -> None:
    """Keep the state of a run that is done, as it is; that of an ensemble lies in its members."""
    shutil.rmtree(directory / KEPT_STATE, ignore_errors=True)
    (directory / "state").mkdir(exist_ok=True)
    (directory / "state").rename(directory / KEPT_STATE)


def _alike(earlier: Path, plan: RunPlan) -> RunRecord:
    """Return the record of the earlier run, checked."""
    record = read_record(earlier)
    if record is None:
        raise ConfigError(f"extend: {earlier} is not a run. Name the directory of one")
    before, now = _flat(record.identity), _flat(plan.identity)
    old, new = ({name: value for name, value in one.items() if name.partition(".")[0] not in FREE} for one in (before, now))
    if differing := sorted(changes(old, new)):
        raise ConfigError(
            f"extend: {earlier} differs in {', '.join(differing)}. A run that goes on may differ in {', '.join(FREE[:-1])} "
            "alone; for other changes start a new run from its model"
        )
    for name in LENGTHS:
        done, wanted = before.get(name), now.get(name)
        if isinstance(done, int | float) and isinstance(wanted, int | float) and wanted <= done:
            raise ConfigError(
                f"extend: {name} is {wanted:g}, and {earlier} has done {done:g}. Set {name} to more, counted from its beginning"
            )
    return record


def _flat(identity: Mapping[str, object]) -> dict[str, object]:
    """Return the settings of an identity beside its other parts."""
    config = identity.get("config")
    return {
        **{name: value for name, value in identity.items() if name != "config"},
        **(dict(config) if isinstance(config, Mapping) else {}),
    }

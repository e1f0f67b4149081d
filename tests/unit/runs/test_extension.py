"""A run that goes on from another one has its checkpoint, its metrics and what it dropped."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from palate.core import ConfigError
from palate.runs.extension import KEPT_STATE
from palate.runs.member_runs import member_runs
from palate.runs.record import Parent, RunPlan
from palate.runs.run import Run, open_run

FIRST = RunPlan("sft", "sft", config={"epochs": 1, "optimizer": {"lr": 0.1}}, seed=1, keeps_state=True)


def worked(run: Run, until: int) -> Run:
    """The run after so many steps, from where it stood."""
    with run.active():
        mark = run.state / "step"
        start = int(mark.read_text()) if mark.is_file() else 0
        run.rewind(start)
        for step in range(start, until):
            run.log(step, {"sft/loss/mean": float(step)})
        mark.write_text(str(until))
        (run.state / "sent.json").write_text("{}")
    return run


def later(root: Path, **changed: object) -> RunPlan:
    """The plan of a longer run that extends the first one."""
    config = {**FIRST.config, "epochs": 2, **changed}
    return replace(FIRST, config=config, parents=(Parent("extend", f"../{FIRST.directory(root).name}", FIRST.key),), keeps_state=False)


def test_it_begins_where_the_other_was_done_and_leaves_that_as_it_was(tmp_path: Path) -> None:
    first = open_run(tmp_path, FIRST)
    first.dropped("file", ["too long"])
    worked(first, 2)
    assert (first.directory / KEPT_STATE / "step").read_text() == "2"
    assert not (first.directory / "state").exists()
    plan = later(tmp_path)
    run = open_run(tmp_path, plan)
    assert run.is_resumed
    assert run.record.dropped == {"file": {"too long": 1}}
    assert not (run.directory / "state/sent.json").exists()
    worked(run, 5)
    assert [row["step"] for row in run.logged()] == [0, 1, 2, 3, 4]
    assert not (run.directory / KEPT_STATE).exists()
    assert [row["step"] for row in first.logged()] == [0, 1]
    assert plan.key not in {FIRST.key, replace(plan, parents=()).key}
    assert open_run(tmp_path, plan).is_done


def test_one_that_was_cut_off_while_it_began_begins_again(tmp_path: Path) -> None:
    worked(open_run(tmp_path, FIRST), 2)
    plan = later(tmp_path)
    directory = plan.directory(tmp_path)
    (directory / ".extending").mkdir(parents=True)
    (directory / "metrics.jsonl").write_text("half")
    assert (open_run(tmp_path, plan).state / "step").read_text() == "2"
    assert [row["step"] for row in worked(open_run(tmp_path, plan), 3).logged()] == [0, 1, 2]


def test_members_go_on_from_the_same_members(tmp_path: Path) -> None:
    first = open_run(tmp_path, FIRST)
    with first.active():
        for number, (member, _) in enumerate(member_runs(first, 2, {"model": "base"}), start=1):
            worked(member, number)
    run = open_run(tmp_path, later(tmp_path))
    assert [(member.state / "step").read_text() for member, _ in member_runs(run, 2, {"model": "base"})] == ["1", "2"]


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    worked(open_run(tmp_path, FIRST), 2)
    with pytest.raises(ConfigError, match="differs in dtype. A run that goes on may differ in epochs, iterations, optimizer alone"):
        open_run(tmp_path, later(tmp_path, dtype="float16"))
    with pytest.raises(ConfigError, match="differs in seed"):
        open_run(tmp_path, replace(later(tmp_path), seed=2))
    assert not open_run(tmp_path, later(tmp_path, optimizer={"lr": 0.2})).is_done
    shutil.rmtree(FIRST.directory(tmp_path) / KEPT_STATE)
    with pytest.raises(ConfigError, match=r"kept no checkpoint to go on from. Run it with keep_state: true"):
        open_run(tmp_path, later(tmp_path))
    shutil.rmtree(FIRST.directory(tmp_path))
    with pytest.raises(ConfigError, match="is not a run. Name the directory of one"):
        open_run(tmp_path, later(tmp_path))

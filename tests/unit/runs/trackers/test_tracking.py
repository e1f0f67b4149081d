"""Trackers: each row once through kills and resumes, read back from what they wrote; none of them can stop a run."""

import importlib.util
import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from palate.cli import main
from palate.core import ConfigError, Interrupted
from palate.pipeline.execute import run_stage
from palate.pipeline.plan import Planned, read_pipeline
from palate.runs.record import RunPlan
from palate.runs.run import Run
from palate.runs.trackers import TRACKERS, require_trackers, tracker_names
from palate.runs.trackers import follow as module
from tests.support.repository import ROOT

ROWS = [{"online/score/mean": k / 4, "online/kl/mean": k * 2.0} for k in range(10)]
CUTS = ((6, 0), (8, 4), (9, 5), (10, 3))
"""A run cut off three times: the step it is cut off at, and the checkpoint it began from."""


def needs(package: str) -> pytest.MarkDecorator:
    """Skips a test where an optional package is not installed."""
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


@dataclass(frozen=True)
class Steps:
    """A stage that logs rows from a checkpoint on."""

    start: int
    end: int

    def check(self) -> None:
        """Nothing to check."""

    def run(self, run: Run) -> None:
        run.rewind(self.start)
        for k in range(self.start, self.end):
            run.log(k, ROWS[k])
        if self.end < len(ROWS):
            raise Interrupted("cut off")


def work(directory: Path, track: Sequence[str], cuts: Sequence[tuple[int, int]] = CUTS) -> None:
    """The run in `directory`, cut off and resumed."""
    plan = RunPlan("ppo", "online", {"kl": {"coef": 0.1}, "steps": 10})
    for end, start in cuts:
        try:
            run_stage(Planned(plan, directory, Steps(start, end)), track)
        except Interrupted:
            assert end < len(ROWS)


class Memory:
    """A tracker that remembers, for every name it was made under."""

    seen: list[tuple[str, int]] = []  # noqa: RUF012 (what all of them saw)
    closed: list[bool] = []  # noqa: RUF012

    def __init__(self, about: object) -> None:
        self.id = about.id  # type: ignore[attr-defined]

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        assert metrics == ROWS[step]
        self.seen.append((self.id, step))

    def close(self, *, is_done: bool) -> None:
        self.closed.append(is_done)


class Weak(Memory):
    """A tracker that fails at its third row."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if step >= 2:
            raise OSError("the network is gone")


class Dead(Memory):
    """A tracker that cannot be opened."""

    def __init__(self, about: object) -> None:
        raise ValueError("no key")


@pytest.fixture
def _fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    Memory.seen, Memory.closed = [], []
    entries = {cls.__name__.lower(): module.TrackerEntry(f"{__name__}:{cls.__name__}", "json", "json") for cls in (Memory, Weak, Dead)}
    monkeypatch.setattr(module, "TRACKERS", {**TRACKERS, **entries})
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])


@pytest.mark.usefixtures("_fakes")
def test_each_row_is_sent_once_however_often_the_run_is_cut_off(tmp_path: Path) -> None:
    work(tmp_path / "run", ["memory"])
    assert [step for _, step in Memory.seen] == list(range(10))
    assert len({name for name, _ in Memory.seen}) == 1
    assert Memory.closed == [False, False, False, True]


@pytest.mark.usefixtures("_fakes")
def test_a_tracker_that_joins_later_is_sent_what_it_missed(tmp_path: Path) -> None:
    work(tmp_path / "run", [], CUTS[:2])
    work(tmp_path / "run", ["memory"], CUTS[2:])
    assert [step for _, step in Memory.seen] == list(range(10))


@pytest.mark.usefixtures("_fakes")
def test_a_run_made_afresh_is_another_run_to_trackers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.runs.run._now", lambda: "2001-02-03T04:05:06.000+00:00")
    work(tmp_path / "a", ["memory"], [(10, 0)])
    monkeypatch.setattr("palate.runs.run._now", lambda: "2001-02-03T04:05:07.000+00:00")
    work(tmp_path / "b", ["memory"], [(10, 0)])
    assert len({name for name, _ in Memory.seen}) == 2


@pytest.mark.usefixtures("_fakes")
def test_a_tracker_that_fails_is_left_out_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work(tmp_path / "run", ["weak", "dead", "memory"], [(10, 0)])
    assert [step for _, step in Memory.seen] == list(range(10))
    assert capsys.readouterr().err.splitlines() == [
        "  dead failed and is left out from now on: ValueError: no key",
        "  weak failed and is left out from now on: OSError: the network is gone",
    ]
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 10


@needs("tensorboard")
def test_tensorboard_reads_its_files(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    work(tmp_path / "run", ["tensorboard"])
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == set(ROWS[0])
    for name in ROWS[0]:
        assert [(event.step, event.value) for event in events.Scalars(name)] == [
            (k, pytest.approx(row[name])) for k, row in enumerate(ROWS)
        ]


@needs("mlflow")
def test_mlflow_has_each_row_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    work(tmp_path / "kitchen" / "run", ["mlflow"])
    client = MlflowClient()
    experiment = client.get_experiment_by_name("kitchen")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(found.info.run_id, "online/score/mean")
    assert sorted((item.step, item.value) for item in history) == [(k, row["online/score/mean"]) for k, row in enumerate(ROWS)]
    assert (found.info.status, found.data.params) == ("FINISHED", {"kl.coef": "0.1", "steps": "10"})


@needs("wandb")
def test_wandb_goes_on_offline_under_the_same_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    work(tmp_path / "run", ["wandb"])
    files = list((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 4
    assert len({path.name for path in files}) == 1
    assert all(b"online/score/mean" in path.read_bytes() for path in files)
    assert "failed" not in capsys.readouterr().err


@needs("trackio")
def test_trackio_has_each_row_once(tmp_path: Path) -> None:
    """In a process of its own: trackio reads its folder's name when it is imported, and keeps threads."""
    imports = "import sys; from pathlib import Path; from tests.unit.runs.trackers import test_tracking as t"
    code = f"{imports}; t.work(Path(sys.argv[1]), ['trackio'])"
    env = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "kitchen" / "run")], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    assert "failed" not in done.stderr
    with sqlite3.connect(tmp_path / "trackio" / "kitchen.db") as store:
        assert [step for (step,) in store.execute("select step from metrics order by id")] == list(range(10))


def test_names_are_words_between_commas_or_a_list() -> None:
    assert tracker_names(None) == tracker_names("") == tracker_names("none") == tracker_names([]) == ()
    assert tracker_names("tensorboard, wandb,tensorboard") == tracker_names(["tensorboard", "wandb"]) == ("tensorboard", "wandb")
    for wrong in (3, {"tensorboard": True}, [1], True):
        with pytest.raises(ConfigError, match="track must name trackers"):
            tracker_names(wrong)
    with pytest.raises(ConfigError, match=r"no tracker 'tensorbord'. Known: tensorboard, wandb, mlflow, trackio"):
        tracker_names("tensorbord")


def test_a_missing_package_is_one_message_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        module, "TRACKERS", {**TRACKERS, "wandb": module.TrackerEntry("palate.runs.trackers.wandb:Wandb", "no_such_package", "wandb")}
    )
    assert main(["world", "--track", "wandb"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "wandb, which is not installed. Install palate[wandb]" in line
    assert not (tmp_path / "runs").exists() or list((tmp_path / "runs").glob("*/run.json")) == []
    require_trackers(())


def test_a_pipeline_names_its_trackers_and_the_command_line_others(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("track: [tensorboard]\nstages: {w: {stage: world}}\n")
    assert read_pipeline(path).track == ("tensorboard",)
    assert read_pipeline(path, ["track=mlflow,wandb"]).track == ("mlflow", "wandb")
    assert read_pipeline(path, ["track=none"]).track == ()
    path.write_text("track: [tensorbord]\nstages: {w: {stage: world}}\n")
    with pytest.raises(ConfigError, match=r"p\.yaml:1: there is no tracker 'tensorbord'"):
        read_pipeline(path)

"""Whether a run is running, has ended, is stalled, or nobody can tell."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from palate.core import RunError
from palate.runs.liveness import state_of
from palate.runs.lock import LOCK, Stop, is_at_work, locked, stoppable
from palate.runs.progress import PROGRESS, recorded
from palate.runs.record import RunPlan, RunRecord
from palate.runs.run import open_run


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    return open_run(tmp_path, RunPlan("ppo", "online")).record


def test_a_process_is_seen_while_it_works_and_missed_when_it_is_gone(tmp_path: Path) -> None:
    assert is_at_work(tmp_path) is None
    with locked(tmp_path):
        assert is_at_work(tmp_path) is True
    code = f"from pathlib import Path\nfrom palate.runs.lock import locked\nwith locked(Path({str(tmp_path)!r})): pass"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert is_at_work(tmp_path) is False


def test_a_number_that_another_process_has_now_is_not_the_run(tmp_path: Path) -> None:
    with locked(tmp_path):
        holder = json.loads((tmp_path / LOCK).read_text())
    assert holder["process"] == os.getpid()
    (tmp_path / LOCK).write_text(json.dumps({**holder, "started": "1"}))
    assert is_at_work(tmp_path) is False


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"where": ["elsewhere"], "process": 1, "started": ""}'])
def test_who_is_not_known_or_elsewhere_is_unknown(text: str, tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text(text)
    assert is_at_work(tmp_path) is None


@pytest.mark.parametrize(
    ("is_there", "quiet", "step", "state"),
    [
        (True, 1, 2.0, "running"),
        (None, 1, 2.0, "running"),
        (True, 61, 2.0, "stalled"),
        (None, 61, 2.0, "unknown"),
        (True, 61, 30.0, "running"),
        (True, 301, 30.0, "stalled"),
        (True, 61, None, "running"),
        (True, 601, None, "stalled"),
        (None, 601, None, "unknown"),
        (False, 1, 2.0, "ended"),
    ],
)
def test_the_state_of_a_run_whose_record_says_running(
    is_there: bool | None, quiet: float, step: float | None, state: str, record: RunRecord
) -> None:
    assert state_of(record, quiet, step, is_at_work=is_there).state == state


@pytest.mark.parametrize(
    ("status", "text"), [("done", "Done."), ("failed", "It failed. the disk is full"), ("interrupted", "It was interrupted.")]
)
def test_a_run_that_said_how_it_ended_has_ended(status: str, text: str, record: RunRecord) -> None:
    ended = state_of(replace(record, status=status, error="the disk is full"), 0, 1.0, is_at_work=True)  # type: ignore[arg-type]
    assert ended.state == "ended"
    assert ended.text.startswith(text)


def test_progress_is_written_at_most_once_a_second_without_what_an_earlier_process_did(tmp_path: Path) -> None:
    now, counted = [0.0], list[int]()

    def advance(n: int = 1, note: str = "") -> None:
        counted.append(n)

    def said() -> dict[str, object]:
        content: dict[str, object] = json.loads((tmp_path / PROGRESS).read_text())
        return content

    recording = recorded(advance, tmp_path / PROGRESS, 20, "online", {"online/kl/mean": 3.0}, lambda: now[0])
    about = {"label": "online", "total": 20, "limits": {"online/kl/mean": 3.0}}
    assert said() == {**about, "done": 0, "seconds_per_unit": None}
    recording(10)
    for now[0] in (0.4, 0.8):
        recording(1)
    assert said()["done"] == 0
    now[0] = 6.0
    recording(1)
    assert said() == {**about, "done": 13, "seconds_per_unit": 2.0}
    assert counted == [10, 1, 1, 1]


def test_progress_that_cannot_be_written_does_not_stop_a_run(tmp_path: Path) -> None:
    recorded(lambda n=1, note="": None, tmp_path / "missing" / PROGRESS, 1, "sft", {})(1)  # type: ignore[misc]


@pytest.mark.parametrize(("world", "after"), [("1", signal.SIG_DFL), ("2", signal.SIG_IGN)])
def test_a_rank_that_ends_with_an_error_has_the_time_to_say_so(world: str, after: signal.Handlers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", world)
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with stoppable(Stop()):
            pass
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        with pytest.raises(RunError), stoppable(Stop()):
            raise RunError("the others are lost")
        assert signal.getsignal(signal.SIGTERM) is after
    finally:
        signal.signal(signal.SIGTERM, before)

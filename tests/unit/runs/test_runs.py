"""Run directories: who may work in one, what its record holds, what its key is made of, and where it came from."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from palate.core import Interrupted, RunError
from palate.runs import digests, provenance
from palate.runs.digests import DigestCache
from palate.runs.record import Parent, RunPlan, RunRecord, input_key, lineage, read_record
from palate.runs.run import open_run, open_run_at

PLAN = RunPlan("base", "pretrain", {"data": "w.txt", "rate": 0.5}, seed=1)


def record_of(directory: Path) -> RunRecord:
    found = read_record(directory)
    assert found is not None
    return found


def finished(root: Path, plan: RunPlan) -> Path:
    """The directory of a run that is done, with a file in it."""
    run = open_run(root, plan)
    with run.active():
        (run.directory / "out.txt").write_text(plan.name)
    return run.directory


def test_two_processes_cannot_work_in_one_directory(tmp_path: Path) -> None:
    first, second = open_run(tmp_path, PLAN), open_run(tmp_path, PLAN)
    with first.active():
        with pytest.raises(RunError, match="another process is working in"), second.active():
            raise AssertionError("both work")
        assert record_of(first.directory).status == "running"
    with second.active():
        pass


def test_a_done_run_keeps_no_checkpoint_and_one_that_was_cut_off_does(tmp_path: Path) -> None:
    run = open_run(tmp_path, PLAN)
    with pytest.raises(Interrupted), run.active():
        (run.state / "step").write_text("3")
        raise KeyboardInterrupt
    assert (run.directory / "state" / "step").read_text() == "3"
    assert record_of(run.directory).status == "interrupted"
    with open_run(tmp_path, PLAN).active():
        pass
    assert not (run.directory / "state").exists()
    assert record_of(run.directory).status == "done"
    assert open_run(tmp_path, PLAN).is_done


def test_a_resumed_run_adds_its_time_and_is_recorded_with_todays_code(tmp_path: Path) -> None:
    run = open_run(tmp_path, PLAN)
    old = replace(record_of(run.directory), seconds=100.0, code={"source": "of yesterday"}, error="it fell over")
    old.write(run.directory)
    again = open_run(tmp_path, PLAN)
    assert again.is_resumed
    with again.active():
        pass
    new = record_of(run.directory)
    assert 100 <= new.seconds == again.record.seconds < 1000
    assert new.code["source"] == provenance.source_digest()
    assert (new.started, new.error) == (old.started, None)


def test_dropped_rows_are_recorded_by_source_and_reason(tmp_path: Path) -> None:
    run = open_run(tmp_path, PLAN)
    run.dropped("a.jsonl", ["too long", "empty", "too long"])
    run.dropped("b.jsonl", ["empty"])
    assert record_of(run.directory).dropped == {"a.jsonl": {"empty": 1, "too long": 2}, "b.jsonl": {"empty": 1}}


def test_only_finite_metrics_with_three_words_are_logged(tmp_path: Path) -> None:
    run = open_run(tmp_path, PLAN)
    run.log(0, {"online/kl/mean": 1.0})
    for name, value, told in (("kl", 1.0, "not named stage/thing/statistic"), ("online/kl/mean", float("nan"), "is nan")):
        with pytest.raises(RunError, match=told):
            run.log(1, {name: value})
    assert run.logged() == [{"step": 0, "online/kl/mean": 1.0}]


def test_rewind_leaves_the_steps_before_and_cuts_off_half_a_line(tmp_path: Path) -> None:
    run = open_run(tmp_path, PLAN)
    for step in range(4):
        run.log(step, {"online/kl/mean": step})
        run.warn(step, {"kl": "far"}, {})
    with (run.directory / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "onl')
    run.rewind(2)
    run.log(2, {"online/kl/mean": 20.0})
    assert [(row["step"], row["online/kl/mean"]) for row in run.logged()] == [(0, 0), (1, 1), (2, 20)]
    assert len((run.directory / "warnings.jsonl").read_text().splitlines()) == 2


def test_a_directory_of_another_run_or_of_other_files_is_refused(tmp_path: Path) -> None:
    open_run_at(tmp_path / "here", PLAN)
    with pytest.raises(RunError, match=r"They differ in seed: 1 there, 2 here"):
        open_run_at(tmp_path / "here", replace(PLAN, seed=2))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("")
    with pytest.raises(RunError, match=r"files that do not belong to a run \(thesis\.tex\)"):
        open_run_at(tmp_path / "other", PLAN)


def test_everything_that_makes_a_run_is_in_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    told = replace(PLAN, parents=(Parent("data", "w.txt", "0123456789ab"),))
    others = [
        replace(told, seed=2),
        replace(told, stage="sft"),
        replace(told, config={**told.config, "rate": 0.6}),
        replace(told, expect="refused"),
        replace(told, parents=(Parent("data", "w.txt", "ba9876543210"),)),
    ]
    assert len({plan.key for plan in (told, *others)}) == 6
    moved = Parent("data", "elsewhere/v.txt", "0123456789ab")
    assert replace(told, name="other", config={**told.config, "data": moved.path}, parents=(moved,)).key == told.key
    monkeypatch.setattr("palate.runs.record.__version__", "99")
    assert replace(told).key != told.key


def test_a_path_into_a_run_is_known_by_the_runs_key_and_the_way_inside(tmp_path: Path) -> None:
    directory, cache = finished(tmp_path, PLAN), DigestCache()
    assert input_key(directory, cache) == PLAN.key
    assert input_key(directory / "out.txt", cache) == f"{PLAN.key}/out.txt"
    with pytest.raises(RunError, match="has no lost.txt"):
        input_key(directory / "lost.txt", cache)
    (tmp_path / "copy.txt").write_text("base")
    assert input_key(tmp_path / "copy.txt", cache) == cache.content(directory / "out.txt")


def test_a_run_tells_everything_that_it_came_from(tmp_path: Path) -> None:
    (tmp_path / "w.txt").write_text("words")
    outside = Parent("data", str(tmp_path / "w.txt"), "0123456789ab")
    base = finished(tmp_path / "runs", replace(PLAN, parents=(outside,)))
    parents = (Parent("model", f"../{base.name}/out.txt", "x"), Parent("data", outside.path, outside.key))
    later = finished(tmp_path / "runs", RunPlan("sft", "sft", {"model": "", "data": ""}, parents=parents))
    found = [(depth, field, path.name, None if record is None else record.name) for depth, field, path, record in lineage(later)]
    assert found == [
        (0, "", later.name, "sft"),
        (1, "model", "out.txt", "base"),
        (2, "data", "w.txt", None),
        (1, "data", "w.txt", None),
    ]


def test_a_directory_is_known_by_names_and_contents(tmp_path: Path) -> None:
    cache, seen = DigestCache(), set()
    for name, texts in (("a", {"x": "1", "y": "2"}), ("b", {"x": "2", "y": "1"}), ("c", {"x": "1", "z": "2"})):
        (tmp_path / name).mkdir()
        for file, text in texts.items():
            (tmp_path / name / file).write_text(text)
        seen.add(cache.content(tmp_path / name))
    assert len(seen) == 3


def test_digests_of_large_files_are_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "CACHED_BYTES", 4)
    file, store = tmp_path / "w.bin", tmp_path / "digests.json"
    past = time.time() - 100

    def digest(text: str, changed: float) -> str:
        file.write_text(text)
        os.utime(file, (changed, changed))
        return DigestCache(store).file(file)

    one = digest("first", past)
    assert one in json.loads(store.read_text()).values()
    assert digest("other", past) == one  # same size, same time: it was remembered, not read
    two = digest("other", past + 1)
    assert two != one
    now = time.time()
    assert digest("third", now) not in json.loads(store.read_text()).values()  # it may still change within the same tick
    assert digest("again", now) not in (one, two, digest("third", now))
    ahead = now + 3600  # written by a machine whose clock is ahead
    assert digest("ahead", ahead) != digest("skews", ahead)
    store.write_text("[spoilt")
    assert digest("first", past) == one


def test_a_warning_before_the_first_step_outlives_the_start_of_training(tmp_path: Path) -> None:
    run = open_run(tmp_path, RunPlan("ppo", "online"))
    run.warn(0, {"card": "the quality of the reward model is unknown"}, {})
    run.rewind(0)
    run.log(0, {"online/loss/mean": 1.0})
    assert "the quality of the reward model is unknown" in (run.directory / "warnings.jsonl").read_text()


def test_rows_of_several_files_with_one_source_add_up(tmp_path: Path) -> None:
    run = open_run(tmp_path, RunPlan("ppo", "online"))
    run.dropped("prompts too long", ["longer than 8 tokens"] * 3)
    run.dropped("prompts too long", ["longer than 8 tokens"] * 2)
    record = read_record(run.directory)
    assert record is not None
    assert record.dropped == {"prompts too long": {"longer than 8 tokens": 5}}
    again = open_run(tmp_path, RunPlan("ppo", "online"))
    again.dropped("prompts too long", ["longer than 8 tokens"] * 5)
    record = read_record(run.directory)
    assert record is not None
    assert record.dropped == {"prompts too long": {"longer than 8 tokens": 5}}

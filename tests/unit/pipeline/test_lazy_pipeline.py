"""Benchmarks run a pipeline's own stages, those that a figure needs, and copies that differ in what they name."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.kitchen import LazyPipeline
from palate.cli import main
from palate.core import Interrupted
from palate.runs.record import read_record
from palate.runs.run import Run
from tests.support.toys import TOYS

PIPELINE = """
stages:
  first: {stage: count, data: w.txt, trip: trip.txt}
  other: {stage: count, data: $first/out.txt}
  second: {stage: join, parts: [$first/out.txt, w.txt]}
  third: {stage: count, data: $second/out.txt, rate: 0.25, others: [$first/out.txt]}
"""


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LazyPipeline:
    monkeypatch.chdir(tmp_path)
    Path("w.txt").write_text("one two\nthree\nfour five six")
    Path("p.yaml").write_text(PIPELINE)
    return LazyPipeline(7, Path("runs"), Path("p.yaml"), TOYS)


def names(pipeline: LazyPipeline) -> list[str]:
    return sorted(pipeline.figures().stages)


def told(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    return [line.split()[:2] for line in capsys.readouterr().out.splitlines() if line.split()[1:2] in (["done"], ["skipped"])]


def test_a_stage_runs_with_what_it_needs_and_nothing_else(pipeline: LazyPipeline, capsys: pytest.CaptureFixture[str]) -> None:
    directory = pipeline.run("third")
    assert names(pipeline) == ["first", "second", "third"]
    assert pipeline.run("third") == directory
    assert told(capsys) == [["first", "done"], ["second", "done"], ["third", "done"]]

    assert main(["run", "p.yaml", "seed=7", "--runs", "runs"], TOYS) == 0
    assert told(capsys) == [["first", "skipped"], ["other", "done"], ["second", "skipped"], ["third", "skipped"]]
    assert pipeline.figures().stages["third"].samefile(directory)


def test_a_copy_has_every_setting_that_it_does_not_change(pipeline: LazyPipeline) -> None:
    copy = pipeline.run_copy("third", "copy", 9, others=())
    assert names(pipeline) == ["copy", "first", "second"]
    record, original = read_record(copy), pipeline.planned["third"].plan
    assert record is not None
    assert (record.name, record.stage, record.seed) == ("copy", "count", 9)
    assert record.config == {**original.config, "others": []}
    assert pipeline.run_copy("third", "same", 7).name == f"same-{original.key}"  # settings, inputs and seed are the pipeline's own


def test_ctrl_c_too_late_for_a_stage_stops_before_the_next(pipeline: LazyPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("trip.txt").write_text("once")
    monkeypatch.setattr(Run, "check_stop", lambda self: None)
    with pytest.raises(Interrupted, match="stopped after first, which is done"):
        pipeline.run("third")
    assert names(pipeline) == ["first"]

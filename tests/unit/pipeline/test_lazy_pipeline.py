"""Benchmarks run a pipeline's own stages, those that a figure needs, and copies that differ in what they name."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.kitchen import LazyPipeline
from palate.cli import main
from palate.runs.record import read_record
from palate.testing import tiny_policy
from tests.support.planted_rewards import cooks_tokenizer

PIPELINE = """
stages:
  first: {{stage: average, models: [{one}, {two}], weights: [0.25, 0.75]}}
  other: {{stage: average, models: [$first, {one}], weights: [0.1, 0.9]}}
  second: {{stage: average, models: [$first, {two}], weights: [0.5, 0.5]}}
"""


@pytest.fixture
def pipeline(tmp_path: Path) -> LazyPipeline:
    paths = [tmp_path / name for name in ("one", "two")]
    for seed, path in enumerate(paths):
        tiny_policy("qwen3", cooks_tokenizer(), seed=seed).save(path)
    (tmp_path / "p.yaml").write_text(PIPELINE.format(one=paths[0], two=paths[1]))
    return LazyPipeline(7, tmp_path / "runs", tmp_path / "p.yaml")


def names(pipeline: LazyPipeline) -> list[str]:
    return sorted(pipeline.figures().stages)


def test_a_stage_runs_with_what_it_needs_and_nothing_else(pipeline: LazyPipeline, capsys: pytest.CaptureFixture[str]) -> None:
    directory = pipeline.run("second")
    assert names(pipeline) == ["first", "second"]
    assert pipeline.run("second") == directory
    assert capsys.readouterr().out.count("second  done") == 1

    assert main(["run", str(pipeline.config), "seed=7", "--runs", str(pipeline.root)]) == 0
    told = capsys.readouterr().out
    assert [told.count(f"{name}  skipped") + told.count(f"{name}   skipped") for name in ("first", "second", "other")] == [1, 1, 0]
    assert pipeline.figures().stages["second"] == directory


def test_a_copy_has_every_setting_that_it_does_not_change(pipeline: LazyPipeline) -> None:
    copy = pipeline.run_copy("second", "copy", 9, weights=(0.4, 0.6))
    assert names(pipeline) == ["copy", "first"]
    record, original = read_record(copy), pipeline.planned["second"].plan
    assert record is not None
    assert (record.name, record.stage, record.seed) == ("copy", "average", 9)
    assert record.config == {**original.config, "weights": [0.4, 0.6]}
    same = pipeline.run_copy("second", "same", pipeline.seed)
    assert same.name == f"same-{original.key}"  # settings, inputs and seed are the pipeline's own

"""What a benchmark reads of a seed: the runs of its own pipeline file, also where others of the same names lie beside them."""

from __future__ import annotations

from pathlib import Path

from benchmarks.kitchen import SeedRun, write_pipeline
from palate.cli import main

SMALL = {"texts": 40, "prompts": 20, "held_out": 10, "evals": 5}


def world(file: Path, lessons: float) -> Path:
    return write_pipeline(
        file, {"name": "small", "seed": 0, "stages": {"world": {"stage": "world", "kitchen": {**SMALL, "lessons": lessons}}}}
    )


def test_newer_runs_of_another_file_are_not_read(tmp_path: Path) -> None:
    first, second = (world(tmp_path / f"{name}.yaml", lessons) for name, lessons in (("first", 0.3), ("second", 0.5)))
    for file in (first, second):
        assert main(["run", str(file), "seed=3", "--runs", str(tmp_path)]) == 0
    one, other = (SeedRun.planned(3, tmp_path, file) for file in (first, second))
    assert one.stages["world"].is_dir()
    assert one.stages["world"] != other.stages["world"] == SeedRun.read(3, tmp_path).stages["world"]
    assert set(one.seconds) == {"world"}

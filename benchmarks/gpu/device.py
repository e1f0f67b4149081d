"""Every stage of tests/device/pipeline.yaml on the CPU and on the card: float32 must agree, and `dtype: auto` must finish.

Sampling draws the same tokens on both until a rounding error changes one; from there on two runs differ, so the numbers of later stages
may be far apart in a rare run although nothing is wrong. The first stages say more.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import yaml

from benchmarks.gpu.results import is_tiny, result
from benchmarks.gpu.work import scratch
from palate.pipeline.table import STAGES
from palate.runs.record import list_runs
from tests.device.work import PIPELINE
from tests.support.run_numbers import numbers

NEAR = 1e-3
"""Largest relative difference between CPU and card that passes, in float32."""
IN_REHEARSAL = ("world", "base", "sft", "samples")


def main() -> None:
    """Run the pipeline on both at once, compare, and run it again with `dtype: auto`."""
    folder = scratch("device")
    pipeline = folder / "pipeline.yaml"
    content = yaml.safe_load(PIPELINE.read_text(encoding="utf-8"))
    if is_tiny():
        content["stages"] = {name: content["stages"][name] for name in IN_REHEARSAL}
    there = "cpu" if is_tiny() else "cuda"
    pipeline.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    narrow = [name for name, stage in content["stages"].items() if has_dtype(stage["stage"]) and "dtype" not in stage]
    wide = [f"{name}.dtype=float32" for name in narrow]
    began = time.perf_counter()
    runs = {name: started(pipeline, folder / name, [f"device={device}", *wide]) for name, device in (("here", "cpu"), ("there", there))}
    ends = {name: (process.wait(), time.perf_counter() - began) for name, process in runs.items()}
    result("pipeline on the CPU", exit_status=ends["here"][0], seconds=ends["here"][1])
    result(f"pipeline on {there}, float32", exit_status=ends["there"][0], seconds=ends["there"][1])
    here, found = ({record.name: path for path, record in list_runs(folder / name)} for name in ("here", "there"))
    failed = [name for name, (code, _) in ends.items() if code]
    for stage, kind in ((name, settings["stage"]) for name, settings in content["stages"].items()):
        if stage in here and stage in found:
            gap, at = furthest(numbers(here[stage]), numbers(found[stage]))
            result(f"stage {stage}", largest_gap=gap, passes=gap <= (NEAR if stage in narrow or not has_dtype(kind) else 0.1), at=at)
    began = time.perf_counter()
    code = started(pipeline, folder / "auto", [f"device={there}"]).wait()
    result(f"pipeline on {there}, dtype auto", exit_status=code, seconds=time.perf_counter() - began)
    if failed or code:
        sys.exit(f"the pipeline failed: {', '.join([*failed, *(['auto'] if code else [])])}")


def has_dtype(stage: str) -> bool:
    """Return whether a stage has the setting."""
    return "dtype" in {field.name for field in fields(cast("Any", STAGES[stage].load()))}


def started(pipeline: Path, runs: Path, words: list[str]) -> subprocess.Popen[Any]:
    """Start a run of the pipeline; what it says goes to the part's log."""
    command = [sys.executable, "-m", "palate", "run", str(pipeline), *words, "--runs", str(runs)]
    return subprocess.Popen(command, stdout=sys.stderr, stderr=sys.stderr, env={"OMP_NUM_THREADS": "4", **os.environ})


def furthest(here: dict[str, float], there: dict[str, float]) -> tuple[float, str]:
    """Return the largest difference, relative to the number and at least to 1, and where it is; infinite where one side has no number."""
    if here.keys() != there.keys():
        return math.inf, sorted(here.keys() ^ there.keys())[0][-60:]
    gaps = {at: abs(here[at] - there[at]) / max(1.0, abs(here[at])) for at in here}
    at = max(gaps, key=lambda name: gaps[name], default="")
    return gaps.get(at, 0.0), at[-60:]


if __name__ == "__main__":
    main()

"""The benchmark for GPUs is rehearsed on the CPU, so that it does not fail on a machine that is lent for a quarter of an hour."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.repository import ROOT
from tests.support.warm_python import OWN, executable

PARTS = ("device", "limits", "training", "sampling", "online")


def run(out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": executable(), OWN: executable(), "OMP_NUM_THREADS": "1"}
    script = str(ROOT / "benchmarks" / "gpu" / "run.sh")
    return subprocess.run([script, "--tiny", "--out", str(out), *words], capture_output=True, text=True, env=environment, check=False)


@pytest.mark.slow
def test_every_part_finishes_and_writes_its_results(tmp_path: Path) -> None:
    done = run(tmp_path)
    logs = "\n".join(f"{path.name}:\n{path.read_text()[-1500:]}" for path in sorted(tmp_path.glob("*.log")))
    assert done.returncode == 0, f"{done.stdout}{done.stderr}{logs}"
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["tiny"]
    assert {name: part["how"] for name, part in found["parts"].items()} == dict.fromkeys(PARTS, "done")
    results = {name: {one["name"]: one for one in part["results"]} for name, part in found["parts"].items()}
    assert results["device"]["stage sft"]["passes"]
    assert results["device"]["pipeline on cpu, dtype auto"]["exit_status"] == 0
    assert results["limits"]["attention 0.5B relative gap"]["gap"] < 1e-5
    for stage in ("sft", "reward", "dpo-precomputed"):
        assert results["training"][f"{stage} 1.5B"]["tokens_per_s"] > 0
        assert results["training"][f"{stage} 0.5B plain transformers"]["palate_is_faster_by"] > 0
    assert results["sampling"]["generate 0.5B"]["palate_is_faster_by"] > 0
    for method in ("grpo", "ppo"):
        phases = results["online"][f"{method} 0.5B"]
        parts = sum(phases[f"{name}_s"] for name in ("sample", "score", "credit", "learn"))
        assert 0 < parts <= phases["iteration_s"]
    assert "| stage sft |" in (tmp_path / "table.md").read_text()


@pytest.mark.slow
def test_parts_for_which_no_time_is_left_say_so(tmp_path: Path) -> None:
    done = run(tmp_path, "--parts", "limits", "online", "--seconds", "1")
    assert done.returncode == 1
    found = json.loads((tmp_path / "results.json").read_text())
    assert {name: part["how"] for name, part in found["parts"].items()} == dict.fromkeys(("limits", "online"), "no time was left")

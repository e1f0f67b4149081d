"""Workers of a Ray cluster give the numbers of one rank. Needs Ray, which may be in an environment of its own beside Palate."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ranks.commands import ENVIRONMENT, Done, Runs, runs_at
from tests.ranks.test_failures import TRAINED
from tests.support.repository import ROOT
from tests.support.run_numbers import numbers

pytestmark = pytest.mark.slow

PYTHON = os.environ.get("PALATE_RAY_PYTHON", sys.executable)


def on_ray(*words: str) -> Done:
    return subprocess.run([PYTHON, "-m", "palate", *words], capture_output=True, text=True, env=ENVIRONMENT, cwd=ROOT, check=False)


@pytest.fixture(scope="session", autouse=True)
def _ray() -> None:
    """Of the session, and so before what a test would compare."""
    if subprocess.run([PYTHON, "-c", "import ray.train"], capture_output=True, check=False).returncode:
        pytest.skip("Ray is not installed: set PALATE_RAY_PYTHON to the Python of an environment that has Palate and `ray[train]`")


def test_two_workers_give_the_numbers_of_one_rank(alone: Runs, tmp_path: Path) -> None:
    file = tmp_path / "trained.yaml"
    file.write_text(TRAINED)
    words = [
        "run",
        str(file),
        f"tuned={alone['sft'][0]}",
        *(f"{name}={alone[name][0]}" for name in ("base", "world", "reward")),
        "--only",
        "ppo",
    ]
    runs = {}
    for name, how in (("one", ()), ("two", ("--launch", "ray:2"))):
        done = on_ray(*words, "--runs", str(tmp_path / name), *how)
        assert done.returncode == 0, done.stdout + done.stderr
        runs[name] = numbers(runs_at(tmp_path / name)["ppo"][0])
    assert runs["one"].keys() == runs["two"].keys()
    assert all(math.isclose(value, runs["two"][at], rel_tol=1e-5, abs_tol=1e-5) for at, value in runs["one"].items())


def test_a_rank_that_fails_ends_the_command_with_its_exit_code(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("name: wrong\nstages:\n  sft: {stage: sft, model: nowhere, data: nothing.jsonl}\n")
    done = on_ray("run", str(file), "--runs", str(tmp_path / "runs"), "--launch", "ray:2")
    assert done.returncode in {2, 3}, done.stdout + done.stderr


def test_a_cluster_that_does_not_answer_is_named(tmp_path: Path) -> None:
    file = tmp_path / "any.yaml"
    file.write_text("name: any\nstages:\n  world: {stage: world}\n")
    done = on_ray("run", str(file), "--launch", "ray:2:127.0.0.1:1")
    assert done.returncode == 4
    assert "no cluster answers at 127.0.0.1:1" in done.stderr

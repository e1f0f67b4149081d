"""Commands of palate in processes of their own, on one rank or several."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from palate.runs.record import RunRecord, list_runs
from tests.support.repository import ROOT
from tests.support.warm_python import executable

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
Runs = dict[str, tuple[Path, RunRecord]]
Done = subprocess.CompletedProcess[str]


def palate(*words: str, **more: str) -> Done:
    """The command, with `more` in its environment."""
    return ran("-m", "palate", *words, **more)


def torchrun(count: int, patience: int, *words: str, **more: str) -> Done:
    """A script or module on several ranks, under torchrun itself, which kills ranks that do not end within `patience` seconds."""
    script = str(Path(__file__).with_name("patient_torchrun.py"))
    return ran(script, str(patience), "--standalone", "--nproc-per-node", str(count), *words, **more)


def ran(*words: str, **more: str) -> Done:
    environment = {**ENVIRONMENT, "PYTHON_EXEC": executable(), **more}  # what torchrun starts ranks with
    return subprocess.run([executable(), *words], capture_output=True, text=True, env=environment, cwd=ROOT, check=False)


def runs_at(folder: Path) -> Runs:
    return {record.name: (path, record) for path, record in list_runs(folder)}


def whole(folder: Path, file: Path, *words: str, **more: str) -> Runs:
    """The runs of a pipeline, which must not fail."""
    done = palate("run", str(file), *words, "--runs", str(folder), **more)
    assert done.returncode == 0, done.stderr
    return runs_at(folder)

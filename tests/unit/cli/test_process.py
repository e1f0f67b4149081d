"""The command line sets how long idle threads spin, before torch is loaded; what the user set wins."""

import os
import subprocess
import sys

import pytest

from palate.core.process import SPINS

SHOW = "import os, sys; from palate.cli import main; main(['--version']); print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, SPINS), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
    ids=["nothing", "a count", "a policy"],
)
def test_idle_threads_spin_for_a_short_time_only(given: dict[str, str], expected: str) -> None:
    names = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}
    environment = {name: value for name, value in os.environ.items() if name not in names} | given
    done = subprocess.run([sys.executable, "-c", SHOW], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[1] == f"{expected} False"

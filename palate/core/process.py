"""Settings of the whole process that must be made before torch is loaded."""

from __future__ import annotations

import os
import sys

SPINS = "1000"
"""How often an idle thread of OpenMP looks for work before it sleeps."""


def limit_spinning() -> None:
    """Let idle threads of GNU's OpenMP sleep soon, so that the process stays fast beside other busy ones.

    Between two parallel parts of a computation the threads wait for each other, and by default they wait for milliseconds without giving
    up their core. On a busy machine they then take the core from the thread that they wait for. docs/benchmarks.md has measurements.
    What the user set in the environment wins. The library reads the variable when torch loads it, so a later call changes nothing.
    """
    if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)

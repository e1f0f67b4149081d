"""`import palate` is light, and so is looking at a function of a stage."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.repository import ROOT

MODULES = 12
"""Modules that `import palate` may load beyond those of a bare interpreter."""


def loaded(code: str) -> set[str]:
    """The modules of a new process after some code."""
    told = f"import sys\n{code}\nprint(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_palate_loads_a_few_modules() -> None:
    more = loaded("import palate") - loaded("")
    assert "palate" in more
    assert len(more) <= MODULES, sorted(more)


@pytest.mark.parametrize("code", ["palate.sft", "palate.Prompt", "palate.run", "palate.FinishedRun", "help(palate.online)"])
def test_what_loads_no_model_loads_no_torch(code: str) -> None:
    found = loaded(f"import palate, contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()): {code}")
    assert not {"torch", "transformers", "pyarrow"} & found

"""The tiny models of the shared cases about training: made by the script in their folder, for tests that skip where it is absent."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tests.support.repository import ROOT

CASES = ROOT.parent / "shared" / "cases" / "train"


def case_models(folder: Path, *names: str) -> Path:
    """Make the models called `names` in `folder`, and return it."""
    spec = importlib.util.spec_from_file_location("make_models", CASES / "make_models.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for name in names:
        script.make(name, folder)
    return folder

"""The repository as tests see it."""

from __future__ import annotations

import ast
import subprocess
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "palate"


def sources() -> list[Path]:
    """The package's Python files."""
    found = sorted(PACKAGE.rglob("*.py"))
    assert len(found) > 20
    return found


@cache
def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def committed() -> list[Path]:
    """Files that are tracked, or would be after `git add`; without git, all but hidden ones, environments and runs."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        found = [ROOT / name for name in done.stdout.split("\0") if name]
    else:
        found = [
            path for path in ROOT.rglob("*") if "__pycache__" not in path.parts and path.relative_to(ROOT).parts[0] not in {".venv", "runs"}
        ]
    kept = [path for path in found if path.is_file()]
    assert len(kept) > 20
    return kept


@cache
def text_of(path: Path) -> str:
    """The text of a file; empty for one that is not text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def absent(what: str) -> NoReturn:
    """Skips until the README says how to run the demonstration, which is the last part to be written; fails afterwards."""
    readme = ROOT / "README.md"
    if readme.exists() and "make demo" in readme.read_text():
        pytest.fail(f"{what} is missing")
    pytest.skip(f"{what} is not written yet")

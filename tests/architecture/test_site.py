"""The documentation site: every page is in it, every link leads somewhere, and each page is there as Markdown too."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from tests.support.repository import ROOT, absent

SCRIPT = ROOT / "docs" / "markdown_pages.py"


@pytest.fixture(scope="module")
def script() -> Any:
    if not SCRIPT.is_file():
        absent("docs/")
    spec = importlib.util.spec_from_file_location("markdown_pages", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    return read


def test_every_page_stands_once_in_the_navigation(script: Any, settings: dict[str, Any]) -> None:
    named = [file for _, _, file in script.pages(settings["nav"])]
    there = [str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")]
    assert sorted(named) == sorted(there)


def test_the_list_for_language_models_has_a_sentence_of_each_page(script: Any, settings: dict[str, Any]) -> None:
    text = script.llms_text(settings)
    lines = [line for line in text.splitlines() if line.startswith("- ")]
    assert len(lines) == len(list(script.pages(settings["nav"])))
    assert [line for line in lines if not re.fullmatch(r"- \[[^]]+\]\([\w/-]+\.md\): \S.{15,}", line)] == []
    assert "- [PPO](methods/ppo.md): Train a policy online on a reward model" in text


def test_the_site_builds_without_a_warning(settings: dict[str, Any]) -> None:
    if importlib.util.find_spec("zensical") is None:
        pytest.skip("zensical is not installed: the site cannot be built")
    done = subprocess.run([sys.executable, "-m", "zensical", "build", "--strict"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    site = ROOT / settings["site_dir"]
    assert (site / "methods" / "ppo.html").is_file()
    assert [path for path in site.rglob("*") if path.suffix in {".py", ".pyc"}] == []

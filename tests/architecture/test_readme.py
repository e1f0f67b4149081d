"""Commands that the documents name exist."""

import os
import re
import subprocess
from pathlib import Path

from palate import __version__
from palate.cli import COMMANDS
from palate.config.former_names import FORMER_NAMES
from palate.pipeline.table import STAGES
from tests.support.repository import ROOT, absent

TARGETS = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def documents() -> list[Path]:
    """README.md and the pages of docs/."""
    readme = ROOT / "README.md"
    if "make demo" not in readme.read_text():
        absent("README.md")
    return [readme, *sorted((ROOT / "docs").rglob("*.md"))]


def commands(program: str) -> set[str]:
    """Words that follow the name of a program at the beginning of a line of code, or of code within a line."""
    return {word for path in documents() for word in re.findall(rf"(?:^|`|\$ ){program} ([a-z]+)", path.read_text(), flags=re.MULTILINE)}


def test_make_targets_named_in_the_documents_exist() -> None:
    found = commands("make")
    assert {"demo", "test"} <= found
    assert found - TARGETS == set()


def test_commands_named_in_the_documents_exist() -> None:
    found = commands("palate")
    assert "run" in found
    assert found - {*STAGES, *COMMANDS} == set()


def test_make_without_a_target_lists_the_targets() -> None:
    done = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {line.split()[1] for line in done.stdout.splitlines()} == TARGETS == {"demo", "test", "check", "bench", "site", "dist", "help"}


def test_continuous_integration_is_a_program() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert subprocess.run(["bash", "-n", ".ci/run"], cwd=ROOT, check=False).returncode == 0


def test_the_changelog_begins_with_this_version() -> None:
    heading = re.search(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert heading is not None
    assert re.fullmatch(rf"{re.escape(__version__)} - (unreleased|\d{{4}}-\d\d-\d\d)", heading[1])


def test_the_changelog_lists_every_former_name_with_its_new_one() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    words = set(re.findall(r"\w+", text))
    assert [name for old, news in FORMER_NAMES.items() for name in (old, *news) if name not in words] == []

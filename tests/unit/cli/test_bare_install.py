"""Palate without any extra: what works, and that the rest says in one message what to install."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from tests.support.repository import ROOT

WORKS = ("agreement pairs.jsonl", "exchange pairs.jsonl votes.jsonl", "judge-fit --help", "sft --help", "completion bash")

NEEDS = {
    "train": ("demo --no-open", "init pairs.jsonl --model .", "plan p.yaml", "inspect pairs.jsonl --model .", "score . pairs.jsonl",
              "reward-check . pairs.jsonl", "sft --model . --data pairs.jsonl", "report --runs ."),
    "label": ("watch . --port 0", "label --port 0", "exchange pairs.jsonl ratings.db --project p"),
    "train,label": ("serve . --port 0", "judge . --port 0"),
}  # fmt: skip
"""Commands, by the extras that their message names."""

RUN = """\
import json, sys
from palate.cli import main
for words in json.load(sys.stdin):
    try:
        status = main(words.split())
    except SystemExit as end:
        status = end.code
    sys.stderr.write(f"{status}\\n")
"""


def bare_packages(folder: Path) -> None:
    """Fill a folder with links to Palate and to what an installation without extras holds."""
    folder.mkdir()
    for name in ("palate", "configs"):
        (folder / name).symlink_to(ROOT / name)
    wanted, seen = list(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]), set[str]()
    while wanted:
        name = re.split(r"[^\w.-]", wanted.pop())[0]
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue  # for another system, or an older Python
        if found.name in seen:
            continue
        seen.add(found.name)
        wanted += [line for line in found.requires or [] if "extra ==" not in line]
        for top in {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}:
            (folder / top).symlink_to(Path(str(found.locate_file(top))))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bare")
    bare_packages(folder / "packages")
    (folder / "work").mkdir()
    pair = {"prompt": "Rice?", "chosen": "Twelve minutes.", "rejected": "No.", "votes": [1, 0], "raters": ["ann", "bob"]}
    (folder / "work" / "pairs.jsonl").write_text(json.dumps(pair) + "\n")
    (folder / "work" / "p.yaml").write_text("stages: {sft: {stage: sft, model: ., data: pairs.jsonl}}\n")
    return folder


def said(bare: Path, commands: tuple[str, ...]) -> list[str]:
    """Return what the commands write on standard error: messages, and the exit status after each."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"PYTHONPATH": str(bare / "packages")}
    words, given = [sys.executable, "-S", "-c", RUN], json.dumps(commands)
    done = subprocess.run(words, cwd=bare / "work", env=environment, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()


def test_what_the_guide_promises_works_without_an_extra(bare: Path) -> None:
    assert said(bare, WORKS) == ["0"] * len(WORKS)


@pytest.mark.parametrize("extra", NEEDS)
def test_what_is_missing_is_one_message_that_names_the_extra(bare: Path, extra: str) -> None:
    lines = said(bare, NEEDS[extra])
    assert lines[1::2] == ["2"] * len(NEEDS[extra])
    for line in lines[::2]:
        assert line.endswith(f", which is not installed. Run: pip install 'palate[{extra}]'")

"""The tutorials run as they stand, in one folder: files with a title are written, Python is executed, and commands of Palate are run.

Blocks of `sh` show what a reader types and a test cannot: what asks a network, serves pages for ever, or takes minutes.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from glob import glob
from pathlib import Path

import pytest

from palate.cli import main
from palate.cli.settings_table import described
from palate.pipeline.option import Option
from palate.pipeline.table import STAGES
from palate.testing import chat_tokenizer, tiny_policy
from tests.support.pages import Block, blocks_of, command_lines
from tests.support.repository import ROOT

PAGES = ROOT / "docs" / "tutorials"
FIRST = "first-loop"
OTHERS = sorted(path.stem for path in PAGES.glob("*.md") if path.stem != FIRST)


def run_page(name: str) -> None:
    """Do what a page says, from top to bottom, in the current folder."""
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks_of((PAGES / f"{name}.md").read_text(encoding="utf-8")):
        if block.title:
            Path(block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            exec(compile(block.text, f"{name}.md, line {block.line}", "exec", dont_inherit=True), names)
        elif block.language == "bash":
            run_commands(name, block)


def run_commands(name: str, block: Block) -> None:
    """Run each command of a block. As in a shell, a word with a star becomes the paths that it names."""
    for line in command_lines(block.text):
        words = [path for word in shlex.split(line, comments=True) for path in (sorted(glob(word)) if "*" in word else [word])]  # noqa: PTH207
        assert main(words) == 0, f"{name}.md, line {block.line}: palate {line}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a model in which the first tutorial was done."""
    place = tmp_path_factory.mktemp("tutorials")
    model = tiny_policy("qwen3", chat_tokenizer("closed"))
    model.module.config.max_position_embeddings = 1024  # the pages ask for as many tokens as real models take
    model.save(place / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.syspath_prepend(place)
        run_page(FIRST)
    yield place
    for module in [name for name, loaded in sys.modules.items() if (getattr(loaded, "__file__", "") or "").startswith(str(place))]:
        sys.modules.pop(module)


def test_the_first_loop_ends_with_a_report(folder: Path) -> None:
    (report,) = (folder / "runs/first").glob("report-*/report.html")
    assert "My first loop" in report.read_text(encoding="utf-8")
    assert len(list((folder / "runs/first").glob("direct-*"))) == 2  # the page overrides a setting at its end


@pytest.mark.parametrize("page", OTHERS)
def test_a_tutorial_runs(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    run_page(page)


def settings_named(page: str) -> Iterator[str]:
    """What stands as code in the column for Palate of a page's tables of settings: names, and names with a value."""
    for row in re.findall(r"^\| (.*) \|$", (PAGES / f"{page}.md").read_text(encoding="utf-8"), flags=re.MULTILINE):
        cells = re.split(r"(?<!\\) \| ", row)
        yield from (word for word in re.findall(r"`([^`]+)`", cells[1]) if not word.startswith("palate "))


def known(word: str, options: list[Option]) -> bool:
    """Whether a stage has a setting of that name, and the kind or word that stands behind it."""
    name, _, value = word.partition(": ")
    same = [option for option in options if option.name == name or (name.endswith(".NAME") and option.name.startswith(f"{name}."))]
    return bool(same) and (not value or any(value in (*option.choices, *(kind for kind, _ in option.kinds)) for option in same))


@pytest.mark.parametrize("page", ["from-trl", "from-axolotl"])
def test_the_tables_name_settings_that_there_are(page: str) -> None:
    options = [option for entry in STAGES.values() for option in described(entry).options]
    flags = {"--track", "--seed", "--launch", "--shard", "--out"}
    values = {"tau", "aot", "auto", "learned", "group", "batch", "none", "rloo", "deepseek-grpo", "dr-grpo", "dapo"}
    pages_own = {"sft", "online", "direct", "reward", "pretrain", "model/", "adapter/", "prompt", "chosen", "rejected", "columns"}
    found = [word for word in settings_named(page) if word not in flags | values | pages_own and not word.startswith("columns: ")]
    assert len(found) > 40
    assert [word for word in found if not known(word, options)] == []
    assert not known("kl.coef", options)
    assert not known("objective: dppo", options)


def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own reward and rule take less than 30 lines, and its loop by hand has the numbers of the stage: a cell of it says so."""
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((ROOT / "docs/notebook.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["outputs"] for cell in cells] == [[]] * len(cells)  # nobody has to keep numbers up to date
    codes = ["".join(cell["source"]) for cell in cells]
    assert [len(code.splitlines()) < 30 for code in codes if "class " in code] == [True]
    assert any(code.endswith("assert loop.run.logged() == trained.metrics") for code in codes)
    names: dict[str, object] = {"__name__": "__main__"}
    for number, code in enumerate(codes):
        exec(compile(code, f"notebook.ipynb, cell {number}", "exec", dont_inherit=True), names)

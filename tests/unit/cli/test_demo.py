"""`palate demo`: the pipelines that come with Palate, in a checkout and in a wheel."""

from __future__ import annotations

import webbrowser
import zipfile
from pathlib import Path

import pytest

from palate.cli import demo_command, main
from palate.config import shipped
from palate.config.shipped import shipped_pipelines
from tests.support.repository import ROOT

PIPELINE = """
name: small
stages:
  world: {stage: world, kitchen: {texts: 20, demonstrations: 4, prompts: 8, held_out: 4, evals: 1}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place of pipelines with one that takes a moment; the current folder is another one."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "small.yaml").write_text(PIPELINE)
    monkeypatch.setattr(shipped, "PLACES", (tmp_path / "nowhere", tmp_path / "configs"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_a_pipeline_that_comes_with_palate_runs_in_the_current_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "small", "seed=3"]) == 0
    assert "world  done" in capsys.readouterr().out
    (run,) = (folder / "runs" / "small").glob("world-*")
    assert '"seed": 3' in (run / "run.json").read_text()


def test_the_page_is_opened_only_in_front_of_a_terminal_with_a_window(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr("palate.pipeline.execute.page_of", lambda directory: directory / "run.json")
    for terminal, window, words in ((False, True, []), (True, False, []), (True, True, ["--no-open"]), (True, True, [])):
        monkeypatch.setattr("sys.stdout.isatty", lambda terminal=terminal: terminal, raising=False)
        monkeypatch.setattr(demo_command, "has_window", lambda window=window: window)
        assert main(["demo", "small", *words]) == 0
        assert len(opened) == int(terminal and window and not words)
    assert opened[0].startswith("file://")
    assert opened[0].endswith("run.json")


def test_names_that_do_not_exist(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "smal"]) == 2
    assert "no pipeline 'smal' comes with Palate. Did you mean 'small'?" in capsys.readouterr().err
    assert main(["demo"]) == 2
    assert "no pipeline 'kitchen'" in capsys.readouterr().err
    assert not list(folder.iterdir())


def test_the_wheel_holds_the_pipelines(tmp_path: Path) -> None:
    hatchling = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed: no wheel can be built")
    (path,) = hatchling.WheelBuilder(str(ROOT)).build(directory=str(tmp_path))
    names = set(zipfile.ZipFile(path).namelist())
    assert {f"palate/configs/{name}.yaml" for name in shipped_pipelines()} <= names
    assert len(shipped_pipelines()) > 10

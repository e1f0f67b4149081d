"""`palate demo`: the pipelines that come with Palate, in a checkout and in a wheel."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate.cli import main
from palate.config import shipped
from palate.web import browser

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


def test_the_page_is_opened_unless_that_is_not_wanted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("palate.cli.demo_command.open_page", opened.append)
    monkeypatch.setattr("palate.pipeline.execute.page_of", lambda directory: directory / "run.json")
    assert main(["demo", "small", "--no-open"]) == 0
    assert opened == []
    assert main(["demo", "small"]) == 0
    assert len(opened) == 1
    assert opened[0].startswith("file://")
    assert opened[0].endswith("run.json")


@pytest.mark.parametrize(("terminal", "window"), [(False, True), (True, False), (True, True)])
def test_a_browser_opens_only_in_front_of_a_terminal_with_a_window(
    *, terminal: bool, window: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    monkeypatch.setattr(browser, "has_window", lambda: window)
    assert browser.open_page("file:///page") is (terminal and window)
    assert opened == ["file:///page"] * (terminal and window)


def test_names_that_do_not_exist(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "smal"]) == 2
    assert "no pipeline 'smal' comes with Palate. Did you mean 'small'?" in capsys.readouterr().err
    assert main(["demo"]) == 2
    assert "no pipeline 'kitchen'" in capsys.readouterr().err
    assert not list(folder.iterdir())


def test_a_folder_that_cannot_be_written_is_one_message_before_any_work(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palate.pipeline.execute.run_stage", lambda item, track: pytest.fail("a stage was run"))
    (folder / "file").write_text("")
    places = [Path("/proc"), folder / "file"]  # nobody can write there, not even root
    for place in places:
        assert main(["demo", "small", "--runs", str(place / "runs")]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert f"because {place} cannot be written" in error
        assert "--runs DIR" in error
    assert list(folder.iterdir()) == [folder / "file"]

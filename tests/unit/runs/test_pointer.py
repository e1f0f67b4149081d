"""A link to the run in use: swapped in one step, and back as often as it was swapped."""

from pathlib import Path

import pytest

from palate.cli import main
from palate.core import ConfigError, RunError
from palate.runs.pointer import current, swap, swap_back


def test_swaps_are_undone_in_their_order(tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    for run in (first, second, third):
        run.mkdir()
    link = tmp_path / "runs" / "reward"
    assert swap(link, first) is None
    assert swap(link, second) == first
    assert swap(link, third) == second
    assert current(link) == third
    assert [swap_back(link), swap_back(link)] == [second, first]
    assert current(link) == first
    with pytest.raises(ConfigError, match="nothing to go back to"):
        swap_back(link)
    swap(link, second)
    first.rmdir()
    with pytest.raises(RunError, match="no longer exists"):
        swap_back(link)
    assert current(link) == second


def test_what_cannot_be_swapped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "file").write_text("kept")
    with pytest.raises(ConfigError, match="is not a directory"):
        swap(tmp_path / "link", tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="not a link"):
        swap(tmp_path / "file", tmp_path / "run")
    assert (tmp_path / "file").read_text() == "kept"
    assert main(["use", str(tmp_path / "link")]) == 2
    assert "give either a run or --back" in capsys.readouterr().err
    assert main(["use", str(tmp_path / "link"), str(tmp_path / "run")]) == 0
    assert current(tmp_path / "link") == tmp_path / "run"

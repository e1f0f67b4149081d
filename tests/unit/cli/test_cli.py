"""The command line: options from dataclasses, messages instead of tracebacks, exit codes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from palate import __version__
from palate.cli import main
from palate.pipeline.table import StageEntry
from palate.runs.record import list_runs
from tests.support.toys import TOYS
from tests.support.warm_python import executable

ROOT = Path(__file__).resolve().parents[3]
PIPELINE = """\
name: kitchen
stages:
  first: {stage: count, data: w.txt, trip: trip.txt}
  second: {stage: count, data: $first/out.txt}
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("w.txt").write_text("one two\nthree")
    Path("v.txt").write_text("four")
    Path("p.yaml").write_text(PIPELINE)


def palate(*words: str) -> int:
    return main(list(words), TOYS)


def configs() -> list[dict[str, object]]:
    return [dict(record.config) for _, record in list_runs(Path("runs"))]


def test_help_names_every_command_and_stage(capsys: pytest.CaptureFixture[str]) -> None:
    assert palate("--help") == palate() == 0
    out = capsys.readouterr().out
    for word in ("run", "runs", "reference", "count", "join", "Join texts."):
        assert word in out
    assert palate("--version") == 0
    assert capsys.readouterr().out == f"palate {__version__}\n"


def test_options_of_every_kind_reach_the_stage() -> None:
    words = ["--data", "w.txt", "--others", "v.txt", "w.txt", "--named.x", "v.txt", "--model=org/name", "--rate", "1e-3"]
    assert palate("count", *words, "--rule", "long", "--rule.letters", "4", "--loudness", "loud", "--pace.first_step", "2") == 0
    (config,) = configs()
    assert config == {
        "data": "w.txt", "others": ["v.txt", "w.txt"], "named": {"x": "v.txt"}, "model": "org/name", "rate": 0.001,
        "loudness": "loud", "rule": {"kind": "long", "letters": 4, "scale": 2.0}, "pace": {"first_step": 2}, "trip": "",
    }  # fmt: skip


def test_a_nested_option_alone_changes_the_default() -> None:
    assert palate("count", "--data", "w.txt", "--rule.scale", "7") == 0
    assert configs()[0]["rule"] == {"kind": "plain", "scale": 7.0}


def test_a_stage_run_twice_is_skipped_and_fresh_does_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    hows = []
    for more in ([], [], ["--fresh"], ["--seed", "1"]):
        assert palate("count", "--data", "w.txt", *more) == 0
        hows.append(capsys.readouterr().out.split()[1])
    assert hows == ["done", "skipped", "done", "done"]
    assert len(configs()) == 2


def test_out_names_the_directory_and_refuses_another_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert palate("count", "--data", "w.txt", "--out", "here") == 0
    assert Path("here/out.txt").read_text() == "one two\nthree"
    assert palate("count", "--data", "w.txt", "--out", "here") == 0
    assert palate("count", "--data", "w.txt", "--rate", "2", "--out", "here") == 4
    assert "rate: 0.5 there, 2.0 here" in capsys.readouterr().err
    assert palate("count", "--data", "w.txt", "--rate", "2", "--out", "here", "--fresh") == 4
    assert Path("here/out.txt").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["cuont"], 2, "there is no command 'cuont'. Did you mean 'count'?"),
        (["count", "--dta", "w.txt"], 2, "palate count has no '--dta'. Did you mean '--data'?"),
        (["count", "--data", "w.txt", "--rule.scal", "2"], 2, "Did you mean '--rule.scale'?"),
        (["count", "--data", "w.txt", "--first_step", "2"], 2, "palate count has no '--first_step'. Did you mean '--pace.first_step'?"),
        (["count", "--data", "w.txt", "--quite_else", "2"], 2, "palate count has no '--quite_else'. `palate count --help` lists"),
        (["count", "--data", "w.txt", "--pace", "2"], 2, "--pace does not take a value. Give one of its settings: --pace.first_step."),
        (["count", "--data", "w.txt", "--named", "w.txt"], 2, "--named holds several, by name. Give each a name: --named.NAME PATH."),
        (["count", "--data", "w.txt", "v.txt"], 2, "palate count: 'v.txt' does not belong to any option"),
        (["count", "--data", "w.txt", "--rule", "lnog"], 2, "rule has no kind 'lnog'. Did you mean 'long'?"),
        (["count", "--data", "w.txt", "--rule", "plain", "--rule.letters", "2"], 2, "--rule.letters: Plain has no 'letters'."),
        (["count"], 2, "Count needs 'data'"),
        (["count", "--data"], 2, "expected one argument"),
        (["count", "--data", "w.txt", "--rate", "fast"], 2, "--rate: rate: "),
        (["count", "--data", "none.txt"], 2, "there is nothing at none.txt"),
        (["count", "--data", "w.txt", "--seed", "x"], 2, "invalid int value"),
        (["run", "none.yaml"], 2, "none.yaml cannot be read"),
        (["run"], 2, "required: file"),
        (["run", "p.yaml", "--onyl", "first"], 2, "has no '--onyl'. Did you mean '--only'?"),
        (["runs", "nowhere"], 4, "no runs in nowhere"),
    ],
)
def test_what_a_user_can_mend_is_one_message_and_a_code(
    words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert palate(*words) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.startswith("palate: ")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("dta: w.txt", "p.yaml:5: Count has no 'dta'. Did you mean 'data'?"),
        ("pace: {frist_step: 2}", "p.yaml:5: Pace has no 'frist_step'. Did you mean 'first_step'?"),
        ("rule: lnog", "p.yaml:5: stages.first.rule has no kind 'lnog'. Did you mean 'long'?"),
        ("rule: {kind: lnog}", "p.yaml:5: stages.first.rule has no kind 'lnog'. Did you mean 'long'?"),
        ("rule: {kind: long, leters: 2}", "p.yaml:5: Long has no 'leters'. Did you mean 'letters'?"),
    ],
)
def test_an_unknown_name_in_a_file_is_told_with_its_line_and_the_nearest(
    line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = "" if "dta" in line else "data: w.txt"
    Path("p.yaml").write_text(f"name: kitchen\nstages:\n  first:\n    stage: count\n    {line}\n    {data}\n")
    assert palate("run", "p.yaml") == 2
    assert message in capsys.readouterr().err


def test_dashes_in_options_are_underscores() -> None:
    assert palate("count", "--data", "w.txt", "--pace.first-step=3", "--dry-run") == 0
    assert not Path("runs").exists()
    assert palate("count", "--data", "w.txt", "--pace.first-step", "3") == 0
    assert configs()[0]["pace"] == {"first_step": 3}


def test_a_pipeline_runs_lists_and_shows_where_a_run_came_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert palate("run", "p.yaml", "--dry-run") == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["run", "run"]
    assert not Path("runs").exists()
    assert palate("run", "p.yaml", "--runs", "elsewhere", "second.rate=2", "--only", "first") == 0
    assert [record.name for _, record in list_runs(Path("elsewhere"))] == ["first"]
    assert palate("run", "p.yaml", "second.rate=2") == 0
    assert [record.config["rate"] for _, record in list_runs(Path("runs/kitchen"))] == [0.5, 2.0]
    capsys.readouterr()
    assert palate("runs") == 0
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == ["from", "w.txt", "first"]
    (second,) = Path("runs/kitchen").glob("second-*")
    assert palate("runs", str(second)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(second.name)
    assert "data: first-" in lines[1]
    assert "data: " in lines[2]


def test_fresh_with_only_forgets_that_stage_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert palate("run", "p.yaml") == 0
    capsys.readouterr()
    assert palate("run", "p.yaml", "--fresh", "second") == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()[:2]] == ["skipped", "done"]
    assert palate("run", "p.yaml", "--only", "second", "--fresh") == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [["second", "done"]]


def test_a_missing_package_and_a_full_disk_are_messages_and_our_mistakes_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for name, fault in (
        ("absent", "raise ModuleNotFoundError(name='peft.tuners')"),
        ("full", "raise OSError(28, 'No space left', 'page.html')"),
        ("place", "import os, pathlib; pathlib.Path('a').touch(); pathlib.Path('b').mkdir(); os.replace('a', 'b')"),
        ("ours", "raise OSError(9, 'Bad file descriptor')"),
    ):
        (tmp_path / f"{name}.py").write_text(fault)
    assert main(["absent"], {"absent": StageEntry("absent:Absent", "Needs much.")}) == 2
    assert "needs peft, which is not installed. Run: pip install 'palate[train]'" in capsys.readouterr().err
    assert main(["full"], {"full": StageEntry("full:Full", "Writes much.")}) == 4
    assert "no space left for page.html (No space left). Make room" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    assert main(["place"], {"place": StageEntry("place:Place", "Writes over a directory.")}) == 2
    assert "palate: b: Is a directory. Correct the path" in capsys.readouterr().err
    with pytest.raises(OSError, match="Bad file descriptor"):
        main(["ours"], {"ours": StageEntry("ours:Ours", "A mistake of ours.")})
    with pytest.raises(ModuleNotFoundError):
        main(["gone"], {"gone": StageEntry("palate.stages.gone:Gone", "A mistake of ours.")})


def test_reference_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert palate("reference", "--out", "docs/r.md") == 0
    assert "| `data` | path | required | the text. |" in Path("docs/r.md").read_text()


def process(*words: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with the toy stages."""
    code = "import sys; from palate.cli import main; from tests.support.toys import TOYS; sys.exit(main(stages=TOYS))"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([executable(), "-c", code, *words], capture_output=True, text=True, env=env, check=False)


@pytest.mark.parametrize(
    ("way", "code", "message", "traceback"),
    [
        ("train", 5, "palate: the loss is no number", False),
        ("full", 4, "palate: no space left", False),
        ("once", 130, "palate: first was interrupted", False),
        ("twice", 130, "palate: first was stopped at once", False),
        ("crash", 1, "ZeroDivisionError: a mistake of ours", True),
        ("kill", -signal.SIGKILL, "", False),
    ],
)
def test_each_end_of_a_process_has_its_code_and_is_resumed(way: str, code: int, message: str, traceback: bool) -> None:
    Path("trip.txt").write_text(way)
    ended = process("run", "p.yaml")
    assert ended.returncode == code, ended.stderr
    assert message in ended.stderr
    assert ("Traceback" in ended.stderr) == traceback
    Path("trip.txt").unlink()
    again = process("run", "p.yaml")
    assert again.returncode == 0, again.stderr
    assert "resumed" in again.stdout
    (first,) = Path("runs/kitchen").glob("first-*")
    assert json.loads((first / "summary.json").read_text())["lines"] == 2
    assert len((first / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    code = "import sys; from palate.cli import main; sys.exit(main(['--help']))"
    read, write = os.pipe()
    os.close(read)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    done = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True, env=env, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_ctrl_c_outside_a_run_ends_quietly(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("palate.pipeline.plan.read_pipeline", stop)
    assert palate("run", "p.yaml") == 130
    assert capsys.readouterr().err.startswith("palate: stopped")


def test_exchange_converts_and_says_what_is_dropped_or_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    same = {"prompt": "soup?", "chosen": "yes", "rejected": "yes"}
    rows = [{"id": "q", "prompt": "soup?", "chosen": "yes", "rejected": "no", "votes_chosen": 1, "votes_tie": 1}, same]
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert palate("exchange", "a.jsonl", "b.jsonl") == 0
    message = "dropped: 1 x the two sides are equal; the first is a.jsonl:2"
    assert capsys.readouterr().out.splitlines() == ["b.jsonl: 6 rows (1 items, 2 judgments, 2 raters)", message]
    assert palate("exchange", "b.jsonl", "tasks.json", "--to", "label-studio") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "tasks.json: 1 rows (1 items, 2 judgments, 2 raters); tasks.xml"
    assert second.startswith("not kept by label-studio: policies, gold, strata")
    assert palate("exchange", "tasks.json", "c.jsonl", "--from", "label-studio", "--items", "b.jsonl") == 0
    assert Path("c.jsonl").read_text() == Path("b.jsonl").read_text()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["none.jsonl", "b.jsonl"], 3, "none.jsonl: no such file"),
        (["v.txt", "b.jsonl"], 3, "does not read files that end in '.txt'"),
        (["bad.jsonl", "b.jsonl"], 3, "bad.jsonl:1: the row has the columns x, which do not make a known shape"),
        (["bad.jsonl", "b.jsonl", "--from", "trl"], 3, "Correct the row or take it out"),
        (["bad.jsonl", "./bad.jsonl"], 2, "is also the source"),
        (["bad.jsonl", "b.jsonl", "--to", "word"], 2, "invalid choice: 'word'"),
    ],
)
def test_exchange_that_cannot_be_is_one_message_and_writes_nothing(
    words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.jsonl").write_text('{"x": 1}\n')
    assert palate("exchange", *words) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not Path("b.jsonl").exists()


def test_runs_of_an_older_version_are_refused_with_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    Path("w.txt").write_text("one two")
    Path("p.yaml").write_text("stages:\n  first: {stage: count, data: w.txt}\n")
    assert main(["run", "p.yaml"], TOYS) == 0
    ((directory, record),) = list_runs(Path("runs/p"))
    path = directory / "run.json"
    old = {name: value for name, value in json.loads(path.read_text()).items() if name != "format"}
    path.write_text(json.dumps(old))
    directory.rename(directory.with_name("first-0123456789ab"))
    capsys.readouterr()
    out = f"{directory.with_name('first-0123456789ab')}"
    for words in (["run", "p.yaml"], ["runs", "runs/p"], ["runs", out], ["count", "--data", f"{out}/out.txt"]):
        assert main(words, TOYS) != 0
        message = capsys.readouterr().err
        assert "first-0123456789ab was made by an older Palate, whose settings have other names. Run the pipeline again" in message, words
    assert main(["run", "p.yaml", "--fresh"], TOYS) == 0
    assert [found.key for _, found in list_runs(Path("runs/p"))] == [record.key]
    path.write_text(json.dumps(old))
    assert main(["run", "p.yaml"], TOYS) == 4
    assert main(["run", "p.yaml", "--fresh", "first"], TOYS) == 0


def test_current_runs_are_listed_beside_old_ones(capsys: pytest.CaptureFixture[str]) -> None:
    Path("w.txt").write_text("one two")
    assert main(["count", "--data", "w.txt"], TOYS) == 0
    (path,) = Path("runs").glob("*/run.json")
    old = path.parent.with_name("old-0123456789ab")
    old.mkdir()
    (old / "run.json").write_text(json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name != "format"}))
    capsys.readouterr()
    assert main(["runs"], TOYS) == 0
    out = capsys.readouterr().out
    assert path.parent.name in out
    assert "1 more: runs/old-0123456789ab was made by an older Palate" in out

"""`palate forget` on a pipeline of toys: what descends is retired, what does not is kept, and a later run has another key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palate.cli import main
from palate.config.artifacts import RETIRED, file_at, model_at, models_at
from palate.core import RunError
from palate.data.exclusions import FILE
from palate.data.jsonl import write_rows
from palate.data.pseudonyms import hidden
from palate.evaluation.model_trace import shown_rater, trace_model
from palate.runs.pointer import swap, swap_back
from palate.runs.record import RunPlan, list_runs
from palate.runs.retirement import is_retired
from palate.runs.run import open_run
from tests.support.small_kitchen import standing
from tests.support.toys import TOYS

TEXT = """\
name: toys
inputs: {words: judged.jsonl, others: others.jsonl}
stages:
  first: {stage: count, data: $words, model: org/name}
  second: {stage: count, data: $first/out.txt, model: org/name}
  other: {stage: count, data: $others, model: org/name}
  both: {stage: join, parts: [$second/out.txt, $other/out.txt]}
  alone: {stage: join, parts: [$other/out.txt]}
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("toys.yaml").write_text(TEXT)
    write_rows(Path("judged.jsonl"), [{"rater": "simulated-1", "source": "old"}, {"rater": "Maria Rossi"}])
    write_rows(Path("others.jsonl"), [{"rater": "simulated-2"}])
    run()


def run() -> None:
    assert main(["run", "toys.yaml", "--runs", "runs"], TOYS) == 0


def retired() -> set[str]:
    return {record.name for directory, record in list_runs(Path("runs")) if is_retired(directory)}


@pytest.mark.parametrize(
    ("word", "gone"),
    [
        ("simulated-1", {"first", "second", "both"}),
        ("Maria Rossi", {"first", "second", "both"}),
        (hidden("Maria Rossi"), {"first", "second", "both"}),
        ("old", {"first", "second", "both"}),
        ("judged.jsonl", {"first", "second", "both"}),
        ("simulated-2", {"other", "both", "alone"}),
    ],
)
def test_descendants_are_retired_and_a_later_run_is_another(word: str, gone: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    before = standing(Path("runs"))
    assert main(["forget", word, "--in", "runs", "--dry-run"], TOYS) == 0
    assert retired() == set()
    assert main(["forget", word, "--in", "runs"], TOYS) == 0
    assert "retires 3 runs" in capsys.readouterr().out
    assert retired() == gone
    assert "Maria" not in Path("runs", FILE).read_text()
    if word == "judged.jsonl":
        assert main(["run", "toys.yaml", "--runs", "runs"], TOYS) == 2
        assert "withdrew" in capsys.readouterr().err
        return
    run()
    after = standing(Path("runs"))
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == gone
    run()
    assert standing(Path("runs")) == after


def test_a_second_exclusion_makes_again_only_what_it_concerns() -> None:
    assert main(["forget", "simulated-1", "--in", "runs"], TOYS) == 0
    run()
    once = standing(Path("runs"))
    assert main(["forget", "simulated-2", "--in", "runs"], TOYS) == 0
    run()
    twice = standing(Path("runs"))
    assert {name for name in twice if twice[name] != once[name]} == {"other", "both", "alone"}
    record = json.loads((twice["both"] / "run.json").read_text())
    assert [one["name"] for one in record["identity"]["excluded"]] == ["simulated-1", "simulated-2"]


def test_the_mark_says_through_which_runs_it_came() -> None:
    assert main(["forget", "simulated-1", "--in", "runs"], TOYS) == 0
    marks = {
        record.name: json.loads((directory / RETIRED).read_text())["because"]
        for directory, record in list_runs(Path("runs"))
        if is_retired(directory)
    }
    (first,), (both,) = marks["first"], marks["both"]
    assert first == {"excluded": "rater simulated-1", "through": []}
    assert [name.rpartition("-")[0] for name in both["through"]] == ["second"]
    assert main(["forget", "simulated-1", "--in", "runs"], TOYS) == 0
    assert json.loads((standing_or_retired("both") / RETIRED).read_text())["because"] == [both]


def standing_or_retired(name: str) -> Path:
    return next(directory for directory, record in list_runs(Path("runs")) if record.name == name)


def test_everything_that_resolves_a_path_refuses_a_retired_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, other = standing(Path("runs"))["first"], standing(Path("runs"))["other"]
    swap(Path("link"), first)
    swap(Path("link"), other)
    assert main(["forget", "simulated-1", "--in", "runs"], TOYS) == 0
    for path in (str(first), str(first / "out.txt"), str(first / "members" / "1")):
        for resolve in (model_at, models_at, lambda place: file_at(place, "out.txt")):
            with pytest.raises(RunError, match="is retired"):
                resolve(path)
    assert file_at(str(other), "out.txt") == other / "out.txt"
    with pytest.raises(RunError, match="is retired"):
        swap_back(Path("link"))
    capsys.readouterr()
    for data in (first / "out.txt", first):
        assert main(["count", "--data", str(data), "--model", "org/name", "--runs", "elsewhere"], TOYS) == 4
        assert "is retired" in capsys.readouterr().err
    Path("runs", FILE).unlink()  # even the pipeline that made it does not take it for done
    assert main(["run", "toys.yaml", "--runs", "runs"], TOYS) == 4
    assert "is retired" in capsys.readouterr().err


def test_what_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["forget", "simulated-3", "--in", "runs"], TOYS) == 2
    assert "Did you mean 'simulated-" in capsys.readouterr().err
    assert main(["forget", "x", "--in", "nowhere"], TOYS) == 2
    assert "there are no runs" in capsys.readouterr().err


def test_a_trace_knows_versions_of_guidelines_and_shows_no_name_of_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    with open_run(Path("people"), RunPlan("judged", "collect", {"from": {"kind": "people"}})).active() as judged:
        given = [("rater-0123456789", "2"), ("rater-0123456789", "1"), ("Maria Rossi", "2"), ("m/i@1", "")]
        rows = [{"comparison": f"p{k}", "rater": rater, "ranking": [[0], [1]], "guideline": of} for k, (rater, of) in enumerate(given)]
        write_rows(judged.directory / "judgments.jsonl", rows)
    trace = trace_model(judged.directory)
    (source,) = trace.judgments
    assert source.guidelines == {"": 1, "1": 1, "2": 2}
    assert source.raters == {"rater-0123456789": 2, "m/i@1": 1, hidden("Maria Rossi"): 1}
    assert main(["trace", str(judged.directory)]) == 0
    shown = capsys.readouterr().out
    assert "Maria" not in shown
    assert "not known (1), 1 (1) and 2 (2)" in shown
    assert shown_rater("unknown-3") == "unknown-3"
    assert main(["trace", "toys.yaml"]) == 4
    assert "is not a run" in capsys.readouterr().err


def test_a_trace_says_whether_inputs_are_still_the_same() -> None:
    place = standing(Path("runs"))["both"]

    def presence() -> dict[str, tuple[str, int | None]]:
        return {one.name: (one.presence, one.rows) for one in trace_model(place).inputs}

    assert presence() == {"judged.jsonl": ("unchanged", 2), "others.jsonl": ("unchanged", 1), "hub:org/name": ("elsewhere", None)}
    write_rows(Path("judged.jsonl"), [{"rater": "simulated-1"}])
    Path("others.jsonl").unlink()
    assert presence() == {"judged.jsonl": ("changed", None), "others.jsonl": ("missing", None), "hub:org/name": ("elsewhere", None)}

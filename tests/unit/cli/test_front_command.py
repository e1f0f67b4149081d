"""`palate front` from the command line: the table, the file of what was chosen, and bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from palate.cli import main
from palate.data.formats import read_samples
from palate.data.jsonl import read_rows, write_rows


def row(number: int, *scores: tuple[float, float] | None) -> dict[str, Any]:
    entries = [
        {"text": f"answer {k}", "score": sum(one or ()), "scores": {"helpful": one and one[0], "harmless": one and one[1]}}
        for k, one in enumerate(scores)
    ]
    return {"id": str(number), "prompt": [{"role": "user", "content": f"question {number}"}], "completions": entries}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(Path("scored.jsonl"), [row(1, (0, 4), (2, 2), (3, 0)), row(2, (1, 1), None, (0, 3))])
    write_rows(Path("soup.jsonl"), [row(1, (2, 3)), row(2, (2, 1))])


def figures(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["front", "scored.jsonl", "--json", *words]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_front_of_stored_scores(capsys: pytest.CaptureFixture[str]) -> None:
    found = figures(capsys, "--points", "3", "--beside", "soup.jsonl")
    assert (found["prompts"], found["unscored"]) == (2, 1)
    means = {one["name"]: [one["means"][name]["value"] for name in ("helpful", "harmless")] for one in found["points"]}
    assert means["0.00"] == [0.0, 3.5]
    assert means["1.00"] == [2.0, 0.5]
    assert means["soup.jsonl"] == [2.0, 2.0]
    assert list(means) == ["0.00", "0.50", "1.00", "max-min", "all", "soup.jsonl"]
    assert main(["front", "scored.jsonl"]) == 0
    shown = capsys.readouterr().out
    assert "helpful" in shown
    assert "1 completions have no score and cannot be chosen" in shown


def test_weights_choose_and_what_is_chosen_is_written_as_samples(capsys: pytest.CaptureFixture[str]) -> None:
    found = figures(capsys, "--weights", "helpful=1", "--floors", "harmless=2", "--out", "chosen/best.jsonl")
    assert found["points"][0]["below"] == 0
    rows = [dict(row) for _, row in read_rows(Path("chosen/best.jsonl"))]
    assert [[entry["text"] for entry in row["completions"]] for row in rows] == [["answer 1"], ["answer 2"]]
    assert [len(group) for _, group in read_samples("chosen/best.jsonl").rows] == [1, 1]
    worst = figures(capsys, "--weights", "helpful=1", "harmless=1", "--rule", "max_min")
    assert worst["points"][0]["means"]["helpful"]["value"] == 1.5


def test_gold_of_what_is_chosen(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "truths.py").write_text("def gold(prompt, completion, **fields):\n    return {'true': float(completion[-1])}\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = figures(capsys, "--points", "2", "--gold", "truths:gold")
    assert [one["gold"]["gold"]["value"] for one in found["points"][:2]] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--weights", "helpfull=1"], "weights: the scores have no dimension 'helpfull'. Did you mean 'helpful'?"),
        (["--weights", "helpful"], "a weight is written DIMENSION=NUMBER"),
        (["--floors", "helpful"], "a floor is written DIMENSION=NUMBER"),
        (["--floors", "harmless=9"], "no completion reaches the floors harmless=9 (the highest score is 4)"),
        (["--dimensions", "helpful", "kind"], "the scores have no dimension 'kind'"),
        (["--out", "x.jsonl"], "--out writes what one choice chooses"),
        (["--rule", "max_min"], "--rule says what --weights maximises"),
        (["--weights", "helpful=1", "--dimensions", "helpful", "harmless"], "--dimensions and --points belong to a front"),
        (["--weights", "helpful=1", "--points", "5"], "--dimensions and --points belong to a front"),
        (["--weights", "helpful=1", "--out", "scored.jsonl"], "scored.jsonl is the file that the command reads"),
        (["--points", "1"], "a front needs two dimensions and two points or more"),
        (["--beside", "none.jsonl"], "none.jsonl"),
        (["--beside", "other.jsonl"], "--beside: other.jsonl has scores of kind, not helpful, harmless"),
    ],
)
def test_bad_input_has_one_message(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(Path("other.jsonl"), [{"prompt": "so", "completions": [{"text": "a", "scores": {"kind": 1.0}}]}])
    assert main(["front", "scored.jsonl", *words]) in (2, 3)
    assert told in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"prompt": "so", "completions": [{"text": "a", "score": 1.0}]}], "row 1: a completion has no `scores` by dimension"),
        ([row(1, (1, 2)), {**row(2, (1, 2)), "completions": [{"text": "a", "scores": {"kind": 1.0}}]}], "row 2: scores of kind, and of"),
        ([row(1, None)], "no completion has a score"),
        ([{"prompt": "so", "completions": ["a", "b"]}], "row 1: a completion has no `scores` by dimension"),
        ([{"prompt": "so", "completions": [{"text": "a", "scores": {"kind": "1.0"}}]}], "row 1: the score of kind is '1.0'. A score is a"),
        ([{"prompt": "so", "completions": [{"text": "a", "scores": {"kind": True}}]}], "row 1: the score of kind is True"),
        ([{"prompt": "so", "completion": "a"}], "row 1: there are no `completions` with `scores`"),
    ],
)
def test_a_file_without_scores_has_one_message(rows: list[dict[str, Any]], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(Path("bad.jsonl"), rows)
    assert main(["front", "bad.jsonl"]) == 3
    assert told in " ".join(capsys.readouterr().err.split())

"""`palate agreement` from the command line: judgments, preferences with votes, a run of collect; JSON; and input that is none."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from palate.cli import main
from palate.data.jsonl import write_rows


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def output_of(capsys: pytest.CaptureFixture[str], words: str, code: int = 0) -> str:
    assert main(["agreement", *words.split()]) == code
    out, err = capsys.readouterr()
    return " ".join((out if code == 0 else err).split())


def report(capsys: pytest.CaptureFixture[str], words: str) -> dict:
    assert main(["agreement", *words.split(), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def judgments(raters: int = 4, items: int = 120) -> list[dict]:
    """Raters who agree on most pairs, and `dice`, who answers at random; each shown in a random order, taking three seconds."""
    draw = random.Random(0)
    rows = []
    for k in range(items):
        for rater in [f"rater-{r}" for r in range(raters)] + ["dice"]:
            order = draw.choice(([0, 1], [1, 0]))
            first_wins = draw.random() < (0.5 if rater == "dice" else 0.9)
            better = order.index(0 if first_wins else 1)
            rows.append({"comparison": f"p{k}/0-1", "rater": rater, "ranking": [[better], [1 - better]], "order": order, "seconds": 3.0})
    for row in rows[: len(rows) // 2]:  # so that neither completion is always the first
        row["order"] = row["order"][::-1]
        row["dimension"] = "honest"
    return rows


def test_judgments_are_reported_in_words_and_names(capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(Path("judgments.jsonl"), judgments())
    out = output_of(capsys, "judgments.jsonl")
    assert "600 votes" in out
    assert "of 5 raters on 120 questions, a pair on a dimension each" in out
    assert "dice cannot be told from guessing (120 of 600 votes)" in out
    assert "Krippendorff's alpha (0 is chance, 1 full agreement):" in out
    assert "with a tie between the sides:" in out
    assert "reliability: probability of the true answer" in out
    assert "ceiling: no reward model can predict one such rater more often than" in out
    assert "shown first wins:" in out
    assert "longer wins: not known" in out
    assert "seconds a vote: 3.0 median" in out
    assert "how many more: not known. Give --curve RUN" in out
    assert "honest" in out


def test_json_holds_everything_and_one_dimension_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(Path("judgments.jsonl"), judgments())
    found = report(capsys, "judgments.jsonl")
    assert (found["votes"], found["guessing"]) == (600, ["dice"])
    assert {one["dimension"] for one in found["dimensions"]} == {"honest", "overall"}
    half = report(capsys, "judgments.jsonl --dimension honest")
    assert (half["votes"], [one["dimension"] for one in half["dimensions"]]) == (300, ["honest"])
    assert "no judgment on dimension 'kind'" in output_of(capsys, "judgments.jsonl --dimension kind", code=3)


def test_preferences_with_votes_have_no_sides_but_lengths(capsys: pytest.CaptureFixture[str]) -> None:
    draw = random.Random(1)
    rows = [
        {"prompt": f"p{k}", "chosen": "a longer one " * draw.randint(2, 9), "rejected": "short", "votes": [1, 1, draw.choice([0, 0.5, 1])],
         "raters": ["anna", "ben", "cleo"]}
        for k in range(40)
    ]  # fmt: skip
    write_rows(Path("preferences.jsonl"), rows)
    found = report(capsys, "preferences.jsonl")
    assert (found["votes"], found["items"], found["raters"]) == (120, 40, 3)
    assert found["side"]["share"]["n"] == 0
    assert found["length"]["share"]["value"] > 0.7


def test_a_run_of_collect_knows_the_lengths_of_what_it_showed(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run").mkdir()
    rows = [
        {"comparison": f"p{k}", "rater": rater, "ranking": [[0], [1]], "dimension": "overall", "order": [1, 0]}
        for k in range(20)
        for rater in "ab"
    ]
    write_rows(Path("run/judgments.jsonl"), rows)  # the second completion wins; it is the longer one, and was shown first
    turns, candidates = [{"role": "user", "text": "count"}], [{"text": "one"}, {"text": "one two three"}]
    items = [
        {"item": {"id": f"p{k}", "conversation": [*turns, {"role": "user", "text": str(k)}], "candidates": candidates}} for k in range(20)
    ]
    write_rows(Path("run/comparisons.jsonl"), [{"palate": "exchange", "version": 3, "name": ""}, *items])
    found = report(capsys, "run")
    assert found["answers"] == [0, 0, 40]
    assert (found["length"]["share"]["value"], found["length"]["share"]["n"]) == (1.0, 20)
    assert found["by_rater"][0]["first_shown"]["value"] == 1.0


def test_how_many_more_is_read_from_measurements_and_from_reward_runs(capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(Path("judgments.jsonl"), judgments())
    points = [(500, 0.62), (1000, 0.66), (2000, 0.69), (4000, 0.71)]
    write_rows(Path("curve.jsonl"), [{"labels": n, "accuracy": a, "pairs": 900} for n, a in points])
    for n, a in points:
        Path(f"reward-{n}").mkdir()
        summary = {"preferences": n, "held_out": {"overall": {"accuracy": a, "n": 900}}}
        Path(f"reward-{n}/summary.json").write_text(json.dumps(summary))
    curve = report(capsys, "judgments.jsonl --curve curve.jsonl")["curve"]
    assert curve == report(capsys, "judgments.jsonl --rewards reward-500 reward-1000 reward-2000 reward-4000")["curve"]
    assert [one["labels"] for one in curve["forecasts"]] == [8000, 16000, 32000]
    assert 0.71 < curve["forecasts"][0]["accuracy"]["value"] < 0.75
    out = output_of(capsys, "judgments.jsonl --curve curve.jsonl")
    assert "accuracy with 4000 labels: 71.0% (of 900 held-out pairs)" in out
    assert "expected with 8000:" in out
    assert "labels for" in out
    assert "Doubling the labels from 4000 to 8000 is expected to give +" in out
    Path("refresh").mkdir()
    assert main(["agreement", "judgments.jsonl", "--curve", "refresh"]) == 2
    assert "refresh holds no curve.jsonl" in capsys.readouterr().err
    Path("curve.jsonl").rename("refresh/curve.jsonl")
    assert report(capsys, "judgments.jsonl --curve refresh")["curve"] == curve


def test_files_of_other_tools_are_read_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"question_id": k, "model_a": "a", "model_b": "b", "winner": "model_a", "judge": who, "turn": 1} for k in range(8) for who in "xy"
    ]
    write_rows(Path("votes.jsonl"), rows)
    found = report(capsys, "votes.jsonl")
    assert (found["votes"], found["items"], found["side"]["policies"]) == (16, 8, 2)
    Path("votes.csv").write_text(
        "question_id,model_a,model_b,judge,winner\n0,small,large,7,tie\n0,large,small,8,model_a\n1,small,large,7,model_a\n"
    )
    assert report(capsys, "votes.csv")["answers"] == [1, 1, 1]
    item = {"id": "q", "conversation": [], "candidates": [{"text": "one two"}, {"text": "one"}], "task": "compare", "gold": [[0], [1]]}
    same = {"ranking": [[0], [1]], "order": [0, 1]}
    said = [{"item": one, "rater": who, "id": one + who, "strength": 1 + (who == "x"), **same} for one in "qr" for who in "xy"]
    hard = {name: value for name, value in item.items() if name != "gold"} | {"id": "r"}
    head = [{"palate": "exchange", "version": 1, "name": "soups"}, *({"rater": {"id": who, "kind": "person"}} for who in "xy")]
    write_rows(Path("own.jsonl"), [*head, {"item": item}, {"item": hard}, *({"judgment": one} for one in said)])
    own = report(capsys, "own.jsonl")
    assert (own["votes"], own["by_rater"][0]["gold"]["value"], own["length"]["share"]["value"]) == (2, 1.0, 1.0)
    assert own["alpha_strength"]["n"] == 1
    assert "no judgment on dimension 'kind'" in output_of(capsys, "own.jsonl --dimension kind", code=3)


VOTED = {"prompt": "p", "chosen": "a", "rejected": "b", "votes": [1], "raters": ["anna"]}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"prompt": "p", "completions": ["a", "b"]}, "a.jsonl: holds 1 items that nobody judged. Have them judged first"),
        ({"prompt": "p", "completion": "a", "label": True}, "a.jsonl:1: `completion` is not known"),
        ({"rater": "anna", "ranking": [[0], [1]]}, "a.jsonl:1: the row has the columns rater, ranking, which do not make a known shape"),
        ({"comparison": "c", "rater": [], "ranking": [[0], [1]]}, "a.jsonl:1: `rater` is not a string: []"),
        ({"comparison": "c", "rater": "anna", "ranking": [[0], [0]]}, "a.jsonl:1: `ranking` names a place twice: [0, 0]"),
        ({"comparison": "c", "rater": "anna", "ranking": "first"}, "a.jsonl:1: `ranking` is not a list"),
        (VOTED | {"votes": [1], "raters": []}, "a.jsonl:1: `raters` names 0 for 1 votes"),
        (VOTED | {"votes": [0.7]}, "a.jsonl:1: `votes` holds other numbers than 1 (chosen), 0 (rejected), 0.5 (a tie): [0.7]"),
        (VOTED | {"votes": [[1]]}, "a.jsonl:1: `votes[0]` is not a number: [1]"),
        (VOTED | {"votes": [], "raters": []}, "a.jsonl: holds 1 items that nobody judged"),
        (VOTED | {"votes": [None]}, "a.jsonl: holds 1 items that nobody judged"),
    ],
)
def test_what_are_no_votes_is_said_with_file_and_row(capsys: pytest.CaptureFixture[str], row: dict, problem: str) -> None:
    write_rows(Path("a.jsonl"), [row])
    assert problem in output_of(capsys, "a.jsonl", code=3)


def test_places_without_votes_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    assert "empty holds no judgments.jsonl" in output_of(capsys, "empty", code=2)
    assert "no such file or directory" in output_of(capsys, "nowhere.jsonl", code=3)
    write_rows(Path("judgments.jsonl"), judgments())
    write_rows(Path("curve.jsonl"), [{"labels": 3, "accuracy": 0.7}])
    assert "curve.jsonl:1: a measurement needs" in output_of(capsys, "judgments.jsonl --curve curve.jsonl", code=3)
    assert "has no accuracy on held-out pairs" in output_of(capsys, "judgments.jsonl --rewards empty", code=3)

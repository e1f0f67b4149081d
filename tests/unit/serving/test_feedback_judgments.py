"""Feedback in the database of ratings: judgments of its raters, once, however often it is put there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from palate.cli import main
from palate.data.jsonl import read_rows, write_rows
from palate.ratings import JudgmentEntry, open_ratings
from palate.serving.audit_log import INFERENCES
from palate.serving.feedback import FEEDBACK

ANSWERS = ("Soup.", "Rice with beans.", "No.")


def row(number: int, metric: str, value: object, rater: str = "ann", inference: str = "chatcmpl-1", choice: int = 0) -> dict[str, Any]:
    said = {"feedback_id": f"feedback-{number:024x}", "time": 100.0 + number, "inference_id": inference, "metric_name": metric}
    answers = [{"text": text, "policy": "tiny"} for text in ANSWERS]
    told = {"prompt": [{"role": "user", "content": "rice?"}], "completions": answers, "fields": {"passages": ["p"]}}
    return {**said, "value": value, "choice": choice, "rater": rater, "tags": {}, "idempotency_key": "", "digest": "", **told}


def compared(number: int, chosen: int, rejected: int, rater: str = "ann", inference: str = "chatcmpl-1") -> dict[str, Any]:
    return row(number, "comparison", {"chosen": chosen, "rejected": rejected}, rater, inference)


SAID = [
    compared(1, 1, 0),
    compared(2, 1, 0, "bob@example.org"),
    compared(3, 0, 1, ""),
    compared(4, 0, 1, ""),
    row(5, "demonstration", "Rice and beans.", choice=1),
    row(6, "helpful", True, choice=1),
    row(7, "helpful", False, "bob@example.org", choice=1),
    row(8, "stars", 4.5),
    row(9, "comment", "too short"),
    row(10, "demonstration", " Soup. "),  # as the answer was
]


def put(folder: Path, rows: list[dict[str, Any]]) -> str:
    """Put feedback into the database, and return where that is."""
    write_rows(folder / FEEDBACK, rows)
    database = str(folder / "ratings.db")
    assert main(["feedback", str(folder), "--database", database, "--project", "soups"]) == 0
    return database


def standing(database: str, project: str) -> list[tuple[str, list[str] | bool | None, str]]:
    """Each counted judgment: the rater, the texts from best to worst (or whether the answer is at fault), and its id."""
    ratings = open_ratings(database)
    try:
        (number,) = (one.id for one in ratings.projects() if one.name == project)
        texts = {item.id: [one.text for one in item.candidates] for item in ratings.items(number)}
        entries: list[JudgmentEntry] = [one for one in ratings.judgments(number) if one.is_standing and one.status == "kept"]
        found: list[tuple[str, list[str] | bool | None, str]] = []
        for one in entries:
            ranked = [texts[one.item][place] for tier in one.answer.ranking for place in tier]
            found.append((one.pseudonym, ranked or one.answer.broken, one.id))
        return found
    finally:
        ratings.close()


def test_what_was_said_becomes_judgments_of_its_raters_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = put(tmp_path, SAID)
    found = standing(database, "soups")
    hidden = found[1][0]
    assert hidden.startswith("rater~")
    assert [(rater, texts) for rater, texts, _ in found] == [
        ("ann", [ANSWERS[1], ANSWERS[0]]),
        (hidden, [ANSWERS[1], ANSWERS[0]]),
        ("unknown", [ANSWERS[0], ANSWERS[1]]),
        ("unknown-2", [ANSWERS[0], ANSWERS[1]]),
        ("ann", ["Rice and beans.", ANSWERS[1]]),
    ]
    assert [identity for *_, identity in found] == [f"{number:024x}" for number in (1, 2, 3, 4, 5)]
    assert [(rater, is_broken) for rater, is_broken, _ in standing(database, "soups: helpful")] == [("ann", False), (hidden, True)]
    capsys.readouterr()
    assert put(tmp_path, SAID) == database
    assert "0 judgments by 0 new raters, 5 were there already" in capsys.readouterr().out
    assert standing(database, "soups") == found
    assert main(["agreement", database, "--project", "soups"]) == 0
    assert "5 votes (5 decided, 0 tie) of 2 raters, 2 of them by raters without a name" in capsys.readouterr().out
    exported = tmp_path / "pairs.jsonl"
    assert main(["exchange", database, str(exported), "--project", "soups", "--to", "trl"]) == 0
    assert {"Rice and beans.", ANSWERS[1]} <= {one["chosen"][-1]["content"] for _, one in read_rows(exported)}  # type: ignore[index]


def test_the_last_word_counts_in_the_database_too(tmp_path: Path) -> None:
    put(tmp_path, SAID)
    later = [
        compared(11, 0, 1),
        row(12, "helpful", 3.5, choice=1),
        compared(13, 2, 1, "bob@example.org"),
        compared(14, 1, 2, "bob@example.org"),
    ]
    database = put(tmp_path, [*SAID, *later])
    found = [(rater, texts) for rater, texts, _ in standing(database, "soups")]
    assert [texts for rater, texts in found if rater == "ann"] == [["Rice and beans.", ANSWERS[1]], [ANSWERS[0], ANSWERS[1]]]
    other_pairs = [texts for rater, texts in found if rater.startswith("rater~")]
    assert other_pairs == [[ANSWERS[1], ANSWERS[0]], [ANSWERS[1], ANSWERS[2]]]  # each pair has a last word of its own
    assert [is_broken for _, is_broken, _ in standing(database, "soups: helpful")] == [True]
    assert standing(put(tmp_path, [*SAID, *later]), "soups") == standing(database, "soups")
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    assert sorted(standing(put(fresh, [*SAID, *later]), "soups")) == sorted(standing(database, "soups"))


def test_what_cannot_be_put_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, SAID)
    assert main(["feedback", str(tmp_path), "--database", "x.db"]) == 2
    assert "belong together" in capsys.readouterr().err
    write_rows(tmp_path / FEEDBACK, [compared(20, 1, 7)])
    assert main(["feedback", str(tmp_path), "--database", str(tmp_path / "ratings.db"), "--project", "soups"]) == 3
    assert "feedback.jsonl:1: this is not feedback" in capsys.readouterr().err
    write_rows(tmp_path / FEEDBACK, [compared(1, 1, 0)])
    database = str(tmp_path / "ratings.db")
    assert main(["feedback", str(tmp_path), "--database", database, "--project", "soups: helpful"]) == 3
    assert "asks to rule, and this feedback is to compare" in capsys.readouterr().err


def test_collect_takes_them_and_forget_finds_their_rater(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = put(tmp_path, [compared(1, 1, 0), compared(2, 1, 0, "bob")])
    told = SAID[0]
    write_rows(tmp_path / INFERENCES, [{"id": "chatcmpl-1", "prompt": told["prompt"], "completions": told["completions"][:2]}])
    people = ["--from", "people", "--from.database", database, "--from.project", "soups", "--from.wait", "false"]
    runs = tmp_path / "runs"
    assert main(["collect", "--samples", str(tmp_path / INFERENCES), *people, "--out", str(runs / "judged"), "--held_out", "0"]) == 0
    ((_, preference),) = read_rows(runs / "judged" / "preferences.jsonl")
    assert (preference["votes"], preference["raters"]) == ([1.0, 1.0], ["ann", "bob"])
    capsys.readouterr()
    assert main(["forget", "bob", "--in", str(runs), "--dry-run"]) == 0
    assert "would retire 1 runs" in capsys.readouterr().out

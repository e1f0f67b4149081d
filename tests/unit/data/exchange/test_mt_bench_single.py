"""FastChat's marks of single answers: votes on pairs, abstentions, what comes back, and marks beside votes of people."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from palate.cli import main
from palate.core import DataError, Judgment
from palate.data.exchange import Exchange, Vote, read_exchange, write_exchange
from palate.evaluation.judge_report import report_on_judge
from palate.evaluation.rater_report import report_on
from palate.evaluation.rater_votes import read_votes
from tests.support.fuzz import marked, sample

ROW = {
    "question_id": 81, "model": "zeta", "judge": ["gpt-4", "single-v1"], "user_prompt": "u", "judgment": "Good. Rating: [[7]]", "score": 7,
    "turn": 1, "tstamp": 1.5,
}  # fmt: skip


def row(model: str, score: float | None, **more: Any) -> dict[str, Any]:
    return ROW | {"model": model, "score": score, "judgment": f"Rating: [[{score}]]"} | more


def save(file: Path, *rows: object) -> Path:
    file.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return file


def said(exchange: Exchange) -> set[tuple[object, ...]]:
    """Who says what about which answers."""
    items = {item.id: item for item in exchange.items}
    found = set()
    for vote in exchange.votes:
        item = items[vote.judgment.comparison]
        names = [candidate.policy for candidate in item.candidates]
        tiers = tuple(tuple(names[k] for k in tier) for tier in vote.tiers)
        marks = tuple(zip(names, vote.marks, strict=True))
        found.add((item.fields["turn"], vote.judgment.rater, tiers, vote.judgment.strength, vote.judgment.order, marks))
    return found


def test_marks_of_two_answers_are_a_vote_on_the_pair(tmp_path: Path) -> None:
    found = read_exchange(save(tmp_path / "a.jsonl", row("zeta", 7), row("alpha", 9.5), row("beta", 7)))
    assert found.shape == "mt-bench-single"
    assert said(found) == {
        (1, "gpt-4/single-v1", (("alpha",), ("beta",)), 2.5, None, (("alpha", 9.5), ("beta", 7.0))),
        (1, "gpt-4/single-v1", (("alpha",), ("zeta",)), 2.5, None, (("alpha", 9.5), ("zeta", 7.0))),
        (1, "gpt-4/single-v1", (("beta", "zeta"),), 0.0, None, (("beta", 7.0), ("zeta", 7.0))),
    }
    assert [item.id for item in found.items] == ["81/1/alpha/beta", "81/1/alpha/zeta", "81/1/beta/zeta"]
    assert found.kinds() == {"gpt-4/single-v1": "model"}
    assert found.dropped == ()


def test_turns_questions_and_judges_are_apart(tmp_path: Path) -> None:
    judges = {1: ["j", "v1"], 2: ["j", "v1-multi-turn"]}
    rows = [row(model, 5, turn=turn, judge=judge) for model in ("a", "b") for turn, judge in judges.items()]
    found = read_exchange(save(tmp_path / "a.jsonl", *rows, row("a", 1, question_id=82)))
    assert {(one[0], one[1]) for one in said(found)} == {(1, "j/v1"), (2, "j/v1-multi-turn")}
    assert [one.reason for one in found.dropped] == ["the judge's only mark for this question and turn, which makes no pair"]


def test_a_score_of_minus_one_is_an_abstention_and_never_a_grade(tmp_path: Path) -> None:
    file = save(tmp_path / "a.jsonl", row("a", -1), row("b", 3), row("c", 9), row("d", -1, judgment="[[8]]"))
    found = read_exchange(file)
    assert {pair[5] for pair in said(found)} == {(("b", 3.0), ("c", 9.0))}
    assert [one.reason for one in found.dropped] == ["a score of -1, which stands for a reply without a grade"] * 2
    table, left_out = read_votes(file)
    assert len(table.votes) == 1
    assert left_out == (("a score of -1, which stands for a reply without a grade", 2),)


def test_without_a_score_the_mark_is_read_in_the_judges_text(tmp_path: Path) -> None:
    texts = {"a": "Rating: [[4]], not [[9]]", "b": "Rating: [6.5]", "c": "I cannot say."}
    rows = [{name: value for name, value in row(model, 0, judgment=text).items() if name != "score"} for model, text in texts.items()]
    found = read_exchange(save(tmp_path / "a.jsonl", *rows))
    assert {pair[5] for pair in said(found)} == {(("a", 4.0), ("b", 6.5))}
    assert len(found.dropped) == 1


def test_the_last_of_several_marks_counts(tmp_path: Path) -> None:
    found = read_exchange(save(tmp_path / "a.jsonl", row("a", 2), row("b", 3), row("a", 8)))
    assert {pair[5] for pair in said(found)} == {(("a", 8.0), ("b", 3.0))}
    assert [(one.source[-2:], one.reason) for one in found.dropped] == [(":1", "an earlier mark of the same answer by the same judge")]


@pytest.mark.parametrize("kind", ["mt-bench-single", "palate"])
def test_marks_come_back_as_they_were_written(tmp_path: Path, kind: str) -> None:
    rows = [row("a", 7), row("b", 2.5), row("c", 7), row("a", 1, turn=2), row("b", 10, turn=2), row("a", 4, judge=["other", "v1"])]
    found = read_exchange(save(tmp_path / "a.jsonl", *rows, row("b", 3, judge=["other", "v1"])))
    written = write_exchange(found, tmp_path / "b.jsonl", kind)
    assert written.left_out == ()
    assert said(read_exchange(tmp_path / "b.jsonl")) == said(found)
    if kind == "mt-bench-single":
        assert written.rows == 7
        back = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()]
        assert {"question_id": 81, "model": "b", "judge": ["gpt-4", "single-v1"], "judgment": "[[2.5]]", "score": 2.5, "turn": 1} in back
        assert sum(one["score"] == 7 and one["judgment"] == "[[7]]" for one in back) == 2


def test_what_is_not_a_mark_is_left_out_with_a_reason(tmp_path: Path) -> None:
    whole = replace(marked(), votes=(*marked().votes, *(vote for vote in sample().votes if vote.judgment.rater == "ann")))
    written = write_exchange(whole, tmp_path / "a.jsonl", "mt-bench-single")
    assert written.rows == 6
    assert {one.reason for one in written.left_out} == {"not a vote that comes from marks on `overall`, or not kept"}
    with pytest.raises(DataError, match="no rater marked single answers"):
        compared = replace(whole, votes=tuple(replace(vote, marks=()) for vote in whole.votes))
        write_exchange(compared, tmp_path / "b.jsonl", "mt-bench-single")
    nameless = tuple(replace(item, candidates=tuple(replace(one, policy="") for one in item.candidates)) for item in whole.items)
    with pytest.raises(DataError, match="names its policy"):
        write_exchange(replace(whole, items=nameless), tmp_path / "b.jsonl", "mt-bench-single")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"score": "good"}, "`score` is not a number"),
        ({"score": -0.5}, "a mark is 0 or more, and -1 says that there is none"),
        ({"score": -2}, "`score` is outside"),
        ({"model": None}, "`model`"),
        ({"judge": None}, "`judge`"),
        ({"turn": 0}, "`turn`"),
    ],
)
def test_a_faulty_mark_is_one_message(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        read_exchange(save(tmp_path / "a.jsonl", row("a", 1), ROW | change))


def test_marks_of_one_model_compare_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds nothing that was compared, but 2 x the judge's only mark"):
        read_votes(save(tmp_path / "a.jsonl", row("a", 1), row("a", 2, turn=2)))


def test_marks_turn_with_their_candidates() -> None:
    vote = Vote(Judgment("i", "judge", ((1,), (0,)), strength=3.0), marks=(4.0, 7.0)).renumbered("j", (1, 0))
    assert (vote.judgment.comparison, vote.tiers, vote.marks) == ("j", ((0,), (1,)), (7.0, 4.0))


def test_marks_stand_in_the_table_beside_votes_and_those_of_a_question_are_one_comparison(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = ("a", "b", "c", "d")
    rows = [row(model, 1 + (k * j) % 10, question_id=k) for k in range(30) for j, model in enumerate(models)]
    second = [one | {"judge": ["other", "v1"], "score": min(one["score"] + one["question_id"] % 2, 10)} for one in rows]
    file = save(tmp_path / "marks.jsonl", *rows, *second)
    report = report_on(file)
    assert (report.raters, report.items, report.doubles, report.agreement.n) == (2, 180, 30, 30)
    assert report.alpha_strength is not None
    assert main(["agreement", str(file)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "gpt-4/single-v1" in out
    assert "Nobody but models judged here" in out
    marks = {(one["question_id"], one["model"]): one["score"] for one in rows}
    people = [
        {"question_id": k, "model_a": "b", "model_b": "a", "winner": "model_a" if marks[k, "b"] > marks[k, "a"] else "model_b", "turn": 1}
        | {"judge": f"expert_{k % 3}"}
        for k in range(30)
    ]
    judged = read_exchange(save(tmp_path / "one.jsonl", *rows))
    card = report_on_judge(judged, read_exchange(save(tmp_path / "people.jsonl", *people)))
    (one,) = card.dimensions
    assert (one.agreement.pairs, one.agreement.judge.decided.value, card.is_joined_by_text) == (30, 1.0, False)

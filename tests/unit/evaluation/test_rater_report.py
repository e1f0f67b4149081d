"""A real run of collect, read by `palate agreement`: who tosses coins among simulated raters, and the figures of the run's own summary."""

import json
import random
from pathlib import Path

import pytest

from palate.core import Judgment, Message
from palate.data.exchange import Candidate, Exchange, ExchangeItem, RaterInfo, Vote, write_exchange
from palate.data.jsonl import read_rows, write_rows
from palate.evaluation.rater_report import report_on
from palate.evaluation.rater_votes import read_votes
from palate.kitchen.guests import draw_request, write_request
from palate.raters.simulated import RaterPool, Simulated
from palate.runs.record import RunPlan
from palate.runs.run import open_run
from palate.stages.collect import Collect

COMPLETIONS = ("it serves 2 .", "it serves 3 . add some mint .", "everyone will love it .")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run of collect, every question answered by four of six raters."""
    rng = random.Random(0)
    texts = [write_request(draw_request(rng, "train")) for _ in range(40)]
    shown = [{"text": text, "stop": "eos", "tokens": len(text.split())} for text in COMPLETIONS]
    rows = [{"id": f"p{k}", "prompt": [{"role": "user", "content": text}], "completions": shown} for k, text in enumerate(texts)]
    write_rows(tmp_path / "samples.jsonl", rows)
    found = open_run(tmp_path, RunPlan("judged", "collect", {}, 0))
    crowd = RaterPool(raters=6, reliability=1.0, sharpness=4.0, indifference=0.2)
    asked = ("helpful", "honest")
    stage = Collect(str(tmp_path), Simulated("palate.kitchen:judge", pool=crowd, repeat_share=0.0), asked, raters_per_comparison=4)
    with found.active():
        stage.run(found)
    return found.directory


def test_the_report_of_a_run_agrees_with_its_summary_and_rows(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    report = report_on(run)
    assert report.votes == summary["judgments"] == 4 * report.items
    assert report.answers[1] == summary["ties"]
    assert report.items == summary["questions"]
    assert {one.dimension for one in report.dimensions} == {"helpful", "honest"}
    assert report.side.share.value == pytest.approx(summary["shown_first_wins"])
    table, left_out = read_votes(run)
    assert left_out == ()
    words = {tuple(sorted(len(text.split()) for text in pair)) for pair in [COMPLETIONS[:2], COMPLETIONS[1:], COMPLETIONS[::2]]}
    assert {tuple(sorted(map(int, row))) for row in table.words} == words


def test_lengths_stand_on_the_side_they_belong_to(run: Path) -> None:
    table, left_out = read_votes(run)
    assert left_out == ()
    for item, row in zip(table.votes.items, table.words, strict=True):
        first, second = item.split("/")[1].split("-")
        assert row.tolist() == [len(COMPLETIONS[int(k)].split()) for k in (first, second)]


def test_preferences_of_a_run_hold_the_same_votes(run: Path) -> None:
    whole, kept = report_on(run), report_on(run / "preferences.jsonl")
    rows = [row for _, row in read_rows(run / "preferences.jsonl")]
    assert kept.items == len(rows) < whole.items
    assert kept.raters == whole.raters
    only = report_on(run / "preferences.jsonl", dimension="honest")
    assert only.items == sum(row["dimension"] == "honest" for row in rows)


def test_answers_to_the_qualification_are_no_votes(tmp_path: Path) -> None:
    def item(name: str, *, is_qualification: bool) -> ExchangeItem:
        turns = (Message("user", "the rice"),)
        return ExchangeItem(name, turns, (Candidate("make salt"), Candidate("for two")), is_qualification=is_qualification)

    items = (item("asked", is_qualification=False), item("test", is_qualification=True))
    votes = tuple(Vote(Judgment(one.id, who, ((0,), (1,))), f"{one.id}-{who}") for one in items for who in ("ann", "bob"))
    write_exchange(Exchange(items, votes, (RaterInfo("ann", "person"), RaterInfo("bob", "person"))), tmp_path / "soups.jsonl")
    assert report_on(tmp_path / "soups.jsonl").votes == 2

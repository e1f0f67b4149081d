"""Raters who are tested, items whose answer is known, and what the dashboard and the exports say of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palate.cli import main
from palate.data.exchange import read_exchange
from palate.evaluation.rater_report import report_on
from palate.ratings import Answer, Task
from palate.web.figures import project_figures
from palate.web.item_view import claim_items
from palate.web.transfer import EXPORT_KINDS
from tests.support.rating_server import RatingServer
from tests.support.ratings import Team, pair, said, team


def prefer(crew: Team, rater: int, candidate: int) -> str:
    """The rater's next answer, and which item it was about."""
    held = crew.sure(rater)
    place = held.order.index(candidate)
    crew.submit(held, Answer(ranking=((place,), (1 - place,))), rater)
    return held.item


def test_who_failed_a_test_item_passes_once_it_is_removed(server: RatingServer) -> None:
    tests = tuple(pair(f"test {n}", gold=((0,), (1,)), is_qualification=True) for n in range(2))
    crew = team(server.ratings, items=2, extra=tests)
    prefer(crew, 1, 0)
    failed = prefer(crew, 1, 1)
    assert claim_items(server.service, crew.project, crew.raters[1]) == []
    server.ratings.remove_item(failed, crew.now)
    assert len(claim_items(server.service, crew.project, crew.raters[1])) == 2
    assert server.ratings.account(crew.raters[1].id).qualified == (crew.project.id,)
    assert [one.action for one in server.ratings.audit_log()].count("qualified") == 1
    for _ in range(2):
        prefer(crew, 1, 0)
    assert claim_items(server.service, crew.project, crew.raters[1]) == []
    assert [one.action for one in server.ratings.audit_log()].count("qualified") == 1


def test_tests_are_in_no_figure_but_the_gold_column(server: RatingServer) -> None:
    tests = (pair("test", gold=((0,), (1,)), is_qualification=True), pair("hidden", gold=((0,), (1,))))
    crew = team(server.ratings, items=6, raters=2, extra=tests, gold_share=0.5)
    for rater in range(2):
        prefer(crew, rater, 1)
        server.ratings.qualify(crew.project.id, crew.raters[rater].id, crew.now)
    for _ in range(3):
        for rater in range(2):
            prefer(crew, rater, 0)
    while crew.claim(0):
        prefer(crew, 0, 0)
    found = project_figures(server.ratings, crew.project, 0)
    names = {one.name for one in found.figures}
    assert not names & {"Raw agreement", "Ceiling of a reward model", "Krippendorff's alpha"}
    gold = [row.gold for row in found.raters if row.gold is not None]
    assert gold
    assert {(one.value, one.n) for one in gold} == {(1.0, 1)}  # all of the qualification was wrong


def test_gold_about_a_rule_is_in_its_column_and_in_no_agreement(server: RatingServer) -> None:
    project = server.project("rules", Task("rule", rules=("be kind",)), items=2, overlap=2, gold_share=0.5)
    hidden = '{"prompt": "hidden?", "completions": ["c"], "gold": true}'
    server.account("ann", "owner", project)
    server.account("ben", "rater", project)
    assert server.client("ann").api(f"/projects/{project.id}/items", {"items": [json.loads(hidden)]}).status_code == 201
    for name in ("ann", "ben"):
        while held := server.ratings.claim(project.id, server.accounts[name].id, server.clock(), server.service.random):
            is_hidden = server.ratings.item(held.item).gold is not None
            answer = Answer(broken=True if is_hidden else name == "ann")
            server.ratings.submit(held.id, held.rater, answer, f"{name} {held.id}", server.clock())
    found = project_figures(server.ratings, project, 0)
    assert [(one.name, one.value) for one in found.figures] == [("Raw agreement", 0.0)]
    assert {(row.gold.value, row.gold.n) for row in found.raters if row.gold is not None} <= {(1.0, 1)}


def test_what_raters_write_has_no_agreement(server: RatingServer) -> None:
    project = server.project("written", Task("write"), items=1, overlap=2)
    server.account("olga", "owner", project)
    for name in ("ann", "ben"):
        person = server.account(name, "rater", project)
        held = server.ratings.claim(project.id, person.id, server.clock(), server.service.random)
        assert held is not None
        server.ratings.submit(held.id, person.id, Answer(text=f"said {name}"), name * 4, server.clock())
    found = project_figures(server.ratings, project, 0)
    assert found.figures == ()
    page = server.client("olga").get(f"/projects/{project.id}").text
    assert "Answers that raters write are not compared" in page
    assert "Nothing to compare yet" not in page


@pytest.mark.parametrize("kind", EXPORT_KINDS)
def test_what_the_pages_export_is_read(server: RatingServer, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hidden = pair("hidden", gold=((0,), (1,)))
    crew = team(server.ratings, items=4, raters=3, overlap=2, extra=(hidden,))
    for k in range(4):
        for rater in (1, 2):
            said(crew, rater, (k + rater) % 2 if k else 0)
    contested = next(item for item in server.ratings.undecided_items(crew.project.id))
    for key, best in (("a", 1), ("b", 0)):
        server.ratings.adjudicate(contested, crew.raters[0].id, Answer(ranking=((best,), (1 - best,))), key, crew.now)
    server.account("olga", "owner", crew.project)
    answer = server.client("olga").get(f"/projects/{crew.project.id}/export?kind={kind}")
    file = tmp_path / answer.headers["content-disposition"].split('"')[1]
    file.write_bytes(answer.content)
    if kind == "csv":
        assert main(["exchange", str(file), str(tmp_path / "back.jsonl")]) == 3
        assert "is a table for spreadsheets" in capsys.readouterr().err
        return
    assert main(["exchange", str(file), str(tmp_path / "back.jsonl")]) == 0
    votes = read_exchange(file).votes
    if kind == "hh":  # tells no raters, and leaves out what is split
        assert len(votes) == 2
        assert main(["agreement", str(file)]) == 0
        return
    report = report_on(file)
    # Preferences say what is concluded: there the last decision stands alone.
    assert (report.votes, report.doubles) == ((7, 3) if kind == "trl" else (8, 4))
    if kind == "trl":
        (decision,) = (vote for vote in votes if vote.judgment.rater == crew.raters[0].pseudonym)
        assert decision.tiers == ((0,), (1,))
        assert decision.judgment.comparison == contested

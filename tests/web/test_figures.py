"""The dashboard's figures: what they are, that they are counted once and kept, and how old they say they are."""

from __future__ import annotations

import math
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from palate.ratings import Answer, Task
from palate.web.figure_cache import LEAST_SECONDS, TIMES_COST, CachedFigure, FigureCache
from palate.web.figures import project_figures
from tests.support.rating_server import RatingServer
from tests.support.ratings import Team, pair, said, team
from tests.support.waiting import LIMIT_SECONDS, happened


@pytest.fixture
def crew(server: RatingServer) -> Team:
    """Three raters on four items: two always take candidate 0, the third candidate 1."""
    made = team(server.ratings, items=4, raters=3, overlap=3)
    for _ in range(4):
        for rater in range(3):
            said(made, rater, int(rater == 2), seconds=2.0 + rater)
    return made


def test_figures_are_of_the_answers_that_count(server: RatingServer, crew: Team) -> None:
    ratings = server.ratings
    found = project_figures(ratings, crew.project, 7)
    named = {one.name: one for one in found.figures}
    assert named["Raw agreement"].value == pytest.approx(1 / 3)  # of three raters two agree: one pair in three
    assert (found.answers, found.number) == (12, 7)
    rows = {row.account: row for row in found.raters}
    first, third = rows[crew.raters[0].id], rows[crew.raters[2].id]
    assert (first.judgments, first.seconds, first.agreement.value, third.agreement.value) == (4, 2.0, 0.5, 0.0)
    assert first.hours == pytest.approx(8 / 3600)
    crew.undo(2)
    ratings.submit(crew.sure(2).id, crew.raters[2].id, Answer(skipped=True), "skip", crew.now)
    after = project_figures(ratings, crew.project, 8)
    assert after.answers == 11
    assert {one.name: one for one in after.figures}["Raw agreement"].value == pytest.approx((3 / 3 + 1) / 4)
    assert dict(after.worked)[crew.raters[2].id].judgments == 5  # what was taken back, and the skip, were work


def test_gold_and_removed_items(server: RatingServer) -> None:
    crew = team(server.ratings, items=2, raters=2, overlap=2, extra=(pair("gold", gold=((1,), (0,))),), gold_share=0.5)
    for rater in range(2):
        while assignment := crew.claim(rater):
            place = assignment.order.index(1)
            crew.submit(assignment, Answer(ranking=((place,), (1 - place,))), rater)
    row = project_figures(server.ratings, crew.project, 0).raters[0]
    assert (row.gold.value, row.gold.n) == (1.0, 1)
    item = next(iter(server.ratings.items(crew.project.id)))
    before = server.ratings.project_state(crew.project.id)
    server.ratings.remove_item(item.id, crew.now)
    assert server.ratings.project_state(crew.project.id) != before


def test_every_other_question_has_its_raw_agreement(server: RatingServer) -> None:
    project = server.project("rules", Task("rule", rules=("be kind",)), items=2, overlap=2)
    people = [server.account(name, "rater", project) for name in ("ann", "ben")]
    for turn, person in enumerate(people):
        for item in range(2):
            found = server.ratings.claim(project.id, person.id, server.clock(), server.service.random)
            assert found is not None
            answer = Answer(broken=not (turn and item), rule="be kind")
            server.ratings.submit(found.id, person.id, answer, f"{turn} {item}", server.clock())
    (figure,) = project_figures(server.ratings, project, 0).figures
    assert (figure.name, figure.value) == ("Raw agreement", 0.5)
    empty = server.project("nothing yet")
    assert project_figures(server.ratings, empty, 0).figures == ()


def test_the_page_says_of_what_and_how_old_its_figures_are(server: RatingServer, crew: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.web.figure_cache.LEAST_SECONDS", 600.0)  # the clock runs on while the test does
    server.account("olga", "owner", crew.project)
    client = server.client("olga")
    path = f"/projects/{crew.project.id}"
    told = client.get(path).text
    assert "These figures cover all 12 answers so far." in told
    assert "Only 4 questions have two votes or more" in told
    for name in ("Krippendorff", "Alpha, ordinal", "Alpha, interval", "Cohen", "Fleiss", "Log-odds for the first side"):
        assert name in told, name
    server.clock.ahead += 10_000
    assert "These figures cover all 12 answers so far." in client.get(path).text
    server.ratings.add_items(crew.project.id, [pair("new")], server.clock())
    assert "These figures cover all 12 answers so far." in client.get(path).text  # counted again: what was kept was too old
    crew.now = server.clock()
    said(crew, 0, 0)
    server.clock.ahead += 100
    assert re.search(r"These figures cover 12 answers and are 1\d\d seconds old; 1 entry has come since\.", client.get(path).text)
    server.clock.ahead += 600
    assert "These figures cover all 13 answers so far." in client.get(path).text


def test_what_is_asked_for_by_many_is_counted_once() -> None:
    kept: FigureCache[int] = FigureCache()
    begun, go, counted = threading.Event(), threading.Event(), []

    def count() -> int:
        counted.append(1)
        begun.set()
        happened(go)
        return len(counted)

    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(kept.get, "p", "a", 0.0, count)
        happened(begun)
        others = [pool.submit(kept.get, "p", "a", 0.0, count) for _ in range(6)]
        go.set()
        assert {one.result(LIMIT_SECONDS).value for one in (first, *others)} == {1}
    begun.clear()
    go.clear()
    with ThreadPoolExecutor(2) as pool:
        renewing = pool.submit(kept.get, "p", "b", 1e6, count)
        happened(begun)
        assert kept.get("p", "b", 1e6, count).value == 1  # nobody waits while there is a former value
        go.set()
        assert renewing.result(LIMIT_SECONDS).value == 2
    assert len(counted) == 2


def test_a_kept_value_holds_for_its_state_or_for_a_time_that_grows_with_its_cost() -> None:
    dear = CachedFigure("x", 100.0, "a", 2.0)
    assert dear.holds("a", 1e9)
    assert dear.holds("b", 100 + 2 * TIMES_COST - 1)
    assert not dear.holds("b", 100 + 2 * TIMES_COST)
    assert not dear.holds("b", 99.0)  # the clock was set back
    cheap = CachedFigure("x", 100.0, None, 0.0)
    assert cheap.holds(None, 100 + LEAST_SECONDS - 0.1)
    assert not cheap.holds(None, 100 + LEAST_SECONDS)


def test_what_fails_is_not_kept() -> None:
    kept: FigureCache[int] = FigureCache()

    def fail() -> int:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        kept.get("p", None, 0.0, fail)
    assert kept.get("p", None, 0.0, lambda: 3).value == 3
    assert kept.renew("p", None, 0.0, lambda: 4).value == 4
    assert kept.get("p", None, 0.0, lambda: 5).value == 4


@pytest.mark.parametrize("votes", [[0, 0], [0, 1], [1, 0, 0], [0, 1, 2]])
def test_an_interval_holds_its_figure_and_ends_where_the_figure_does(server: RatingServer, votes: list[int]) -> None:
    """Raters who contradict each other, agree in part, and agree wholly: no end of a drawing becomes a number."""
    crew = team(server.ratings, items=4, raters=len(votes), overlap=len(votes))
    for number in range(4):
        for rater, vote in enumerate(votes):
            said(crew, rater, (vote + number * (vote == 2)) % 2)
    figures = project_figures(server.ratings, crew.project, 0).figures
    for one in figures:
        assert math.isfinite(one.value)
        assert one.least <= one.value
        if one.low is not None and one.high is not None:
            assert one.least <= one.low <= one.value <= one.high, one
            assert "odds" in one.name or one.high <= 1, one
    if votes == [0, 1]:
        assert {one.name: one for one in figures}["Krippendorff's alpha"].value < -0.5


def test_unmeasured_time_is_no_time(server: RatingServer) -> None:
    crew = team(server.ratings, items=2, raters=1)
    crew.judge(0, Answer(ranking=((0,), (1,))))
    figures = project_figures(server.ratings, crew.project, 0)
    assert (figures.raters[0].hours, figures.worked[0][1].hours) == (None, None)
    said(crew, 0, 0, seconds=36.0)
    figures = project_figures(server.ratings, crew.project, 0)
    assert (figures.raters[0].hours, figures.worked[0][1].hours) == (0.01, 0.01)

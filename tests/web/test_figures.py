"""The dashboard's figures: what they are, that they are counted once and kept, and how old they say they are."""

from __future__ import annotations

import math
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import expect

from palate.core import Judgment, Message
from palate.data.exchange import Exchange, RaterInfo, Vote, write_exchange
from palate.ratings import Answer, Candidate, Item, Task
from palate.web.figure_cache import LEAST_SECONDS, TIMES_COST, CachedFigure, FigureCache
from palate.web.figures import project_figures
from tests.support.rating_server import RatingServer
from tests.support.ratings import Team, pair, said, team
from tests.support.waiting import LIMIT_SECONDS, happened
from tests.web.conftest import Sit
from tests.web.test_dimensions import FITS, PHONE


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


MODEL = "small/helpful@1a2b3c4d"


def with_people(server: RatingServer) -> Team:
    """Two people on 30 pairs: both take candidate 0, but the second one takes candidate 1 of the last six."""
    crew = team(server.ratings, items=30, raters=2, overlap=2)
    for rater in range(2):
        for _ in range(30):
            assignment = crew.sure(rater)
            (words,) = (turn.text for turn in server.ratings.item(assignment.item).conversation)
            better = assignment.order.index(int(rater == 1 and int(words.split()[1]) >= 24))
            crew.submit(assignment, Answer(ranking=((better,), (1 - better,)), seconds=4.0), rater)
    return crew


def of_model(server: RatingServer, crew: Team) -> Exchange:
    """A model's answers to these pairs: it always takes what is shown first, and sees candidate 0 first in 20 of 30."""
    items = server.ratings.as_exchange(crew.project.id).items
    votes = []
    for item in items:
        order = (0, 1) if int(item.conversation[0].text.split()[1]) < 20 else (1, 0)
        votes.append(Vote(Judgment(item.id, MODEL, ((0,), (1,)), order=order, seconds=0.1)))
    return Exchange(items, tuple(votes), (RaterInfo(MODEL, "model"),))


def test_models_stand_in_a_table_of_their_own_and_move_no_figure_of_people(server: RatingServer) -> None:
    crew = with_people(server)
    alone = project_figures(server.ratings, crew.project, 0)
    server.ratings.import_exchange(of_model(server, crew), "pairs", server.clock())
    both = project_figures(server.ratings, crew.project, 0)
    assert both.figures == alone.figures
    assert both.raters == alone.raters
    assert both.advice == alone.advice
    assert (both.worked, both.answers, both.is_of_people) == (alone.worked, 60, True)
    assert alone.models == ()
    (row,) = both.models
    assert (row.figures.judge, row.figures.votes, row.figures.pairs, row.figures.is_calibrated) == (MODEL, 30, 30, None)
    # Its votes are for candidate 0 in pairs 0 to 19: with the first person in 20 of 30, with the second in these and in the last six.
    assert row.figures.decided.value == pytest.approx((20 + 26) / 60)
    assert row.figures.people.value == pytest.approx(24 / 30)
    assert row.first is not None
    assert (row.first.value, row.first.n) == (1.0, 30)
    assert row.figures.flips is None


def test_where_nobody_but_models_judged_the_page_says_so(server: RatingServer) -> None:
    crew = team(server.ratings, items=30, raters=1, overlap=1)
    server.ratings.import_exchange(of_model(server, crew), "pairs", server.clock())
    found = project_figures(server.ratings, crew.project, 0)
    assert (found.is_of_people, found.answers, found.raters) == (False, 30, ())
    assert {one.name: one.value for one in found.figures}["First side chosen"] == 1.0
    server.account("olga", "owner", crew.project)
    told = server.client("olga").get(f"/projects/{crew.project.id}").text
    assert "Nobody but models judged here, so these figures are of models" in told
    assert "No person has judged yet." in told


def test_a_model_that_grades_criteria_is_beside_people(server: RatingServer) -> None:
    rubric = [{"id": "cause", "text": "Names a cause", "weight": 1}, {"id": "blame", "text": "Blames", "weight": -1}]
    project = server.project(items=0, task=Task(kind="rubric", reason="off"), overlap=2)
    asked = [Item((Message("user", f"Tap {n} drips."),), (Candidate(f"Seal {n}."),), {"rubric": rubric}) for n in range(4)]
    server.ratings.add_items(project.id, asked, server.clock())
    for name, cause, unblamed in (("bob", "met", (0,)), ("eve", "unsure", (0, 3))):
        account = server.account(name, "rater", project)
        for number in range(4):
            held = server.ratings.claim(project.id, account.id, server.clock(), server.service.random)
            assert held is not None
            tap = int(server.ratings.item(held.item).conversation[0].text.split()[1])
            grades = {"cause": cause, "blame": "unmet" if tap in unblamed else "met"}
            server.ratings.submit(held.id, account.id, Answer(grades=grades), f"key {name} {number}", server.clock())  # type: ignore[arg-type]
    alone = project_figures(server.ratings, project, 0)
    items = server.ratings.as_exchange(project.id).items
    said = tuple(Vote(Judgment(item.id, "small/rubric@1", ()), grades={"cause": "met", "blame": "met"}) for item in items)
    server.ratings.import_exchange(Exchange(items, said, (RaterInfo("small/rubric@1", "model"),)), "Taste", server.clock())
    both = project_figures(server.ratings, project, 0)
    assert both.figures == alone.figures
    (row,) = both.models
    assert (row.figures.votes, row.figures.pairs) == (4, 8)
    assert row.figures.decided.value == pytest.approx((4 + 3 + 2) / (4 + 8)), "four votes of bob on the cause, and both on the blame"
    assert (row.figures.people.value, row.figures.people.n) == (pytest.approx(6 / 8), 4)


@pytest.mark.parametrize(("options", "scheme"), [({}, "light"), (PHONE, "dark")])
def test_an_owner_adds_a_models_judgments_and_sees_them_apart(
    server: RatingServer, sit: Sit, tmp_path: Path, options: dict[str, object], scheme: str
) -> None:
    crew = with_people(server)
    server.account("olga", "owner", crew.project)
    write_exchange(of_model(server, crew), tmp_path / "model.jsonl")
    page = sit("olga", f"/projects/{crew.project.id}", color_scheme=scheme, **options)
    expect(page.get_by_role("heading", name="Models")).to_have_count(0)
    page.get_by_text("Add items").click()
    page.locator("#file").set_input_files(tmp_path / "model.jsonl")
    page.get_by_role("button", name="Add the items").click()
    expect(page.locator(".notice.good")).to_contain_text("30 judgments by 1 new raters")
    server.clock.ahead += 1000  # the figures of before are too old
    page.goto(f"{server.url}/projects/{crew.project.id}")
    models = page.locator("section", has=page.get_by_role("heading", name="Models", exact=True))
    expect(models.get_by_role("row")).to_have_count(2)
    row = models.get_by_role("row", name=MODEL)
    expect(row.get_by_role("cell")).to_have_text(["30", "30", re.compile("^77 %"), re.compile("^80 %"), "\u2013", re.compile("^100 %")])
    expect(row).to_contain_text("calibration not known")
    raters = page.locator("section", has=page.get_by_role("heading", name="Raters", exact=True))
    expect(raters.get_by_role("row")).to_have_count(3)
    expect(raters).not_to_contain_text(MODEL)
    expect(page.get_by_text("These figures cover all 60 answers of people so far.")).to_be_visible()
    assert page.evaluate(FITS)

"""What the store counts: progress, what is undecided, the answers that count, and the state they were counted of."""

from palate.core import Judgment
from palate.ratings import Answer, Project, ProjectState, Ratings
from tests.support.ratings import pair, said, team


def test_progress_counts_what_stands(ratings: Ratings) -> None:
    crew = team(ratings, items=3, raters=3, overlap=2, max_overlap=3)
    project = crew.project
    said(crew, 0, 0)
    assert ratings.progress(project.id, crew.now).undecided == 0
    said(crew, 1, 1)  # the same item, the other way: a third is asked
    now = ratings.progress(project.id, crew.now)
    assert (now.judgments, now.begun, now.complete, now.undecided, now.wanted) == (2, 1, 0, 0, 7)
    assert ratings.undecided_items(project.id) == ()
    found = crew.sure(2)
    crew.submit(found, Answer(ranking=((0, 1),), flag="odd"), 2)
    now = ratings.progress(project.id, crew.now)
    assert (now.complete, now.undecided, now.flagged, now.raters) == (1, 1, 1, 3)
    assert ratings.undecided_items(project.id) == (found.item,)
    ratings.submit(crew.sure(0).id, crew.raters[0].id, Answer(skipped=True, reason='a "flag" is none'), "s", crew.now)
    now = ratings.progress(project.id, crew.now)
    assert (now.skipped, now.flagged, now.judgments) == (1, 1, 3)
    ratings.adjudicate(found.item, crew.raters[0].id, Answer(ranking=((0,), (1,))), "a", crew.now)
    assert ratings.progress(project.id, crew.now).undecided == 0
    assert ratings.undecided_items(project.id) == ()


def test_heard_are_the_answers_that_count_and_shown_the_items_that_are_there(ratings: Ratings) -> None:
    crew = team(ratings, items=3, raters=2, overlap=2, extra=(pair("g", gold=((1,), (0,))),))
    said(crew, 0, 0, seconds=3.0)
    said(crew, 0, 1)
    crew.undo(0)
    crew.submit(crew.sure(0), Answer(skipped=True))
    said(crew, 1, 0)
    late = crew.sure(1)
    crew.now += 3600
    assert crew.claim(1) is not None
    heard = list(ratings.counted_answers(crew.project.id))
    assert [(one.rater, one.pseudonym) for one in heard] == [(person.id, person.pseudonym) for person in crew.raters]
    assert heard[0].order[heard[0].answer.ranking[0][0]] == 0
    assert heard[0].answer.seconds == 3.0
    ratings.remove_item(late.item, crew.now)
    shown = ratings.asked_items(crew.project.id)
    compared, judgments = ratings.as_comparisons(crew.project.id)
    assert [(one.id, one.completions) for one in shown.comparisons if one.id not in shown.gold] == [
        (one.id, one.completions) for one in compared
    ]
    assert list(shown.gold.values()) == [((1,), (0,))]
    assert shown.items == {one.id for one in compared}
    assert {one.comparison for one in judgments} <= {one.id for one in compared}
    assert all(isinstance(one, Judgment) and one.guideline == "1" for one in judgments)


def test_the_mark_of_a_project_moves_with_its_rows_and_items(ratings: Ratings) -> None:
    crew = team(ratings, items=2)
    marks = [ratings.project_state(crew.project.id)]
    assert marks == [ProjectState(0, "", 2)]
    said(crew, 0, 0)
    marks.append(ratings.project_state(crew.project.id))
    crew.undo(0)
    marks.append(ratings.project_state(crew.project.id))
    ratings.add_items(crew.project.id, [pair("more")], crew.now)
    marks.append(ratings.project_state(crew.project.id))
    assert len(set(marks)) == 4
    assert [ratings.num_rows_since(crew.project.id, one.number) for one in marks] == [2, 1, 0, 0]
    other = ratings.add_project(Project("other"), crew.now)
    assert ratings.project_state(other.id) == ProjectState(0, "", 0)


def test_ties_are_one_vote_whatever_order_they_were_shown_in(ratings: Ratings) -> None:
    crew = team(ratings, items=1, raters=2, overlap=2, max_overlap=3)
    orders = [crew.judge(rater, Answer(ranking=((0, 1),))).order for rater in range(2)]
    assert orders[0] == orders[1][::-1]
    assert ratings.progress(crew.project.id, crew.now).wanted == 2
    assert ratings.undecided_items(crew.project.id) == ()


def test_one_more_at_a_time_and_none_before_all_are_in(ratings: Ratings) -> None:
    crew = team(ratings, items=1, raters=5, overlap=2, max_overlap=5)
    said(crew, 0, 0)
    assert ratings.progress(crew.project.id, crew.now).wanted == 2
    said(crew, 1, 1)
    assert ratings.progress(crew.project.id, crew.now).wanted == 3
    crew.judge(2, Answer(ranking=((0, 1),)))
    assert ratings.progress(crew.project.id, crew.now).wanted == 4
    said(crew, 3, 0)
    assert ratings.progress(crew.project.id, crew.now).wanted == 5
    said(crew, 4, 1)
    assert ratings.progress(crew.project.id, crew.now).wanted == 5
    assert len(ratings.undecided_items(crew.project.id)) == 1


def test_places_that_were_wanted_stay_while_not_all_are_in(ratings: Ratings) -> None:
    crew = team(ratings, items=1, raters=2, overlap=4, max_overlap=5)
    said(crew, 0, 0)
    said(crew, 1, 1)
    assert ratings.progress(crew.project.id, crew.now).wanted == 4


def test_skips_and_surplus_call_for_nobody(ratings: Ratings) -> None:
    crew = team(ratings, items=1, raters=3, overlap=1, max_overlap=3)
    late = crew.sure(0)
    crew.now += 3600
    crew.submit(crew.sure(1), Answer(skipped=True), 1)
    assert ratings.progress(crew.project.id, crew.now).wanted == 1
    said(crew, 2, 0)
    place = late.order.index(1)
    assert crew.submit(late, Answer(ranking=((place,), (1 - place,)))).status == "surplus"
    now = ratings.progress(crew.project.id, crew.now)
    assert (now.wanted, now.surplus, now.judgments, now.undecided) == (1, 1, 1, 0)
    crew.undo(2)
    said(crew, 2, 0)
    now = ratings.progress(crew.project.id, crew.now)
    assert (now.wanted, now.undecided, ratings.undecided_items(crew.project.id)) == (1, 0, ())


def test_progress_leaves_out_gold_removed_items_and_leases_that_ran_out(ratings: Ratings) -> None:
    crew = team(ratings, items=3, raters=2, extra=(pair("g", gold=((0,), (1,))),))
    gone = crew.sure(0)
    now = ratings.progress(crew.project.id, crew.now)
    assert (now.items, now.gold, now.open) == (3, 1, 1)
    crew.now += 3600
    assert ratings.progress(crew.project.id, crew.now).open == 0
    said(crew, 1, 0)
    assert crew.submit(gone).status in {"kept", "surplus"}
    kept = ratings.progress(crew.project.id, crew.now)
    assert len(list(ratings.counted_answers(crew.project.id))) == kept.judgments
    ratings.remove_item(gone.item, crew.now)
    assert ratings.progress(crew.project.id, crew.now).items == 2


def test_late_answers_are_not_heard(ratings: Ratings) -> None:
    crew = team(ratings, items=1, raters=2)
    late = crew.sure(0)
    crew.now += 3600
    said(crew, 1, 0)
    assert crew.submit(late).status == "surplus"
    assert [one.rater for one in ratings.counted_answers(crew.project.id)] == [crew.raters[1].id]

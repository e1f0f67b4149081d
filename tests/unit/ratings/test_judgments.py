"""Answers: taken once however often they come, never changed, never lost."""

from dataclasses import replace

import pytest
from sqlalchemy import delete, update

from palate.core import DataError, Message
from palate.ratings import Answer, Item, Ratings, Task, schema
from palate.ratings.validation import check_answer
from tests.support.ratings import FIRST, pair, team

SECOND = Answer(ranking=((1,), (0,)))


def test_the_same_key_is_the_same_answer(ratings: Ratings) -> None:
    crew = team(ratings)
    held = crew.sure()
    account = crew.raters[0].id
    first = ratings.submit(held.id, account, FIRST, "k", crew.now + 3.0)
    again = ratings.submit(held.id, account, SECOND, "k", crew.now + 1000.0)
    assert (first.status, again.status) == ("kept", "repeat")
    assert first.judgment == again.judgment
    entries = list(ratings.judgments(crew.project.id))
    assert [entry.answer for entry in entries] == [FIRST]
    other = crew.sure()
    with pytest.raises(DataError, match="key"):
        ratings.submit(other.id, account, FIRST, "k", crew.now)


def test_a_late_answer_counts_while_nobody_else_has_the_item(ratings: Ratings) -> None:
    crew = team(ratings, items=1, overlap=2, raters=3)
    mine, other = crew.sure(0), crew.sure(1)
    crew.now += 60.0
    assert crew.submit(mine).status == "kept"
    assert crew.sure(2).item == other.item
    assert crew.submit(other, rater=1).status == "surplus"
    assert ratings.progress(crew.project.id, crew.now).judgments == 1
    assert ratings.check() == ()


def test_an_answer_to_what_was_given_back_counts_while_there_is_a_place(ratings: Ratings) -> None:
    crew = team(ratings, items=1)
    held = crew.sure(0)
    ratings.release(held.id, crew.raters[0].id)
    assert crew.submit(held).status == "kept"
    assert crew.claim(1) is None
    assert ratings.check() == ()


def test_late_second_removed_and_outside_answers_are_kept_as_surplus(ratings: Ratings) -> None:
    crew = team(ratings, items=1)
    late = crew.sure(0)
    crew.now += 60.0
    taken = crew.judge(1)
    assert crew.submit(late).status == "surplus"
    assert crew.submit(taken, SECOND, 1).status == "surplus"
    (removed,) = ratings.add_items(crew.project.id, [pair("removed")], crew.now).ids
    held = crew.sure(1)
    ratings.remove_item(removed, crew.now)
    assert crew.submit(held, rater=1).status == "surplus"
    ratings.add_items(crew.project.id, [pair("last")], crew.now)
    held = crew.sure(1)
    ratings.release(held.id, crew.raters[1].id)
    ratings.leave(crew.project.id, crew.raters[1].id)
    assert crew.submit(held, rater=1).status == "surplus"
    assert [entry.status for entry in ratings.judgments(crew.project.id)] == ["kept", *["surplus"] * 4]
    assert ratings.progress(crew.project.id, crew.now).surplus == 4
    assert len(ratings.as_comparisons(crew.project.id)[1]) == 1
    assert len(ratings.as_comparisons(crew.project.id, surplus=True)[1]) == 4  # the removed item is no comparison any more
    assert ratings.check() == ()


def test_a_skip_taken_back_while_the_item_is_held_again_takes_no_second_place(ratings: Ratings) -> None:
    crew = team(ratings, items=1, overlap=2)
    held = crew.sure()
    crew.submit(held, Answer(skipped=True))
    assert crew.sure().id == held.id
    assert crew.undo() is not None
    assert ratings.check() == ()
    crew.submit(held)
    assert crew.judge(1).item == held.item


def test_the_same_undo_comes_twice_and_takes_back_one_answer(ratings: Ratings) -> None:
    crew = team(ratings, items=3)
    crew.judge()
    last = crew.judge()
    found = [ratings.undo(crew.project.id, crew.raters[0].id, "again and again", crew.now) for _ in range(3)]
    assert [one and one.id for one in found] == [last.id] * 3
    assert ratings.num_answered(crew.project.id, crew.raters[0].id) == 1
    held = crew.sure()
    with pytest.raises(DataError, match="key"):
        ratings.submit(held.id, crew.raters[0].id, FIRST, "again and again", crew.now)
    with pytest.raises(DataError, match="key"):
        ratings.undo(crew.project.id, crew.raters[0].id, "key 1", crew.now)


def test_the_guideline_that_was_seen_is_kept(ratings: Ratings) -> None:
    crew = team(ratings, items=3)
    held = crew.sure()
    ratings.set_guideline(crew.project.id, "new", crew.now)
    ratings.submit(held.id, crew.raters[0].id, FIRST, "a", crew.now)
    newer, account = crew.sure(), crew.raters[0].id
    assert newer.guideline == 2
    ratings.submit(newer.id, account, FIRST, "b", crew.now, guideline=1)
    assert [entry.guideline for entry in ratings.judgments(crew.project.id)] == [1, 1]
    with pytest.raises(DataError, match="does not have version 3"):
        ratings.submit(crew.sure().id, account, FIRST, "c", crew.now, guideline=3)


@pytest.mark.parametrize(
    ("kind", "answer", "named"),
    [
        ("compare", {"ranking": ((0,), (1,)), "broken": True}, "broken"),
        ("compare", {"ranking": ((0,), (1,)), "text": "words"}, "text"),
        ("rule", {"broken": True, "all_bad": True}, "all_bad"),
        ("rule", {"broken": True, "dialogue": (Message("user", "hello"),)}, "dialogue"),
        ("write", {"text": "words", "ranking": ((0,),)}, "ranking"),
    ],
)
def test_what_a_task_does_not_ask_for_is_refused(kind: str, answer: dict[str, object], named: str) -> None:
    task = Task(kind=kind, rules=("be kind",) if kind == "rule" else ())  # type: ignore[arg-type]
    with pytest.raises(DataError, match=f"does not ask for {named}"):
        check_answer(Answer(**answer), task, 2 if kind == "compare" else 1)  # type: ignore[arg-type]


def test_an_answer_to_what_somebody_else_holds_is_refused(ratings: Ratings) -> None:
    crew = team(ratings)
    held = crew.sure(0)
    with pytest.raises(DataError, match="has no assignment"):
        crew.submit(held, rater=1)
    with pytest.raises(DataError, match="has no assignment"):
        ratings.submit("nothing", crew.raters[0].id, FIRST, "k", crew.now)


def test_a_skip_gives_the_place_to_someone_else(ratings: Ratings) -> None:
    crew = team(ratings, items=1)
    held = crew.sure(0)
    crew.submit(held, Answer(skipped=True, flag="broken picture"), 0)
    assert crew.claim(0) is None
    assert crew.judge(1).item == held.item
    progress = ratings.progress(crew.project.id, crew.now)
    assert (progress.skipped, progress.flagged, progress.judgments, progress.complete) == (1, 1, 1, 1)
    assert ratings.check() == ()


def test_what_was_skipped_comes_again_when_nothing_else_is_left(ratings: Ratings) -> None:
    crew = team(ratings, items=3)
    skipped = crew.sure()
    crew.submit(skipped, Answer(skipped=True))
    assert skipped.item not in {crew.judge().item for _ in range(2)}
    again = crew.sure()
    assert (again.id, again.order) == (skipped.id, skipped.order)
    assert crew.submit(again).status == "kept"
    assert crew.claim() is None
    assert ratings.progress(crew.project.id, crew.now).complete == 3
    assert ratings.check() == ()


@pytest.mark.parametrize("flag", ["", "odd"])
def test_a_skipped_item_of_the_qualification_comes_again(ratings: Ratings, flag: str) -> None:
    test = tuple(pair(f"test {n}", gold=((0,), (1,)), is_qualification=True) for n in range(2))
    crew = team(ratings, items=1, extra=test)
    skipped = crew.sure()
    crew.submit(skipped, Answer(skipped=True, flag=flag))
    assert crew.judge().item != skipped.item
    assert crew.sure().id == skipped.id


def test_answers_of_the_qualification_cannot_be_taken_back(ratings: Ratings) -> None:
    test = tuple(pair(f"test {n}", gold=((0,), (1,)), is_qualification=True) for n in range(2))
    crew = team(ratings, items=1, extra=test)
    crew.judge()
    assert crew.undo() is None


def test_undo_is_a_new_row_and_the_item_comes_back_in_the_same_order(ratings: Ratings) -> None:
    crew = team(ratings, items=2)
    held = crew.judge()
    crew.now += 1.0
    ahead = crew.sure()
    back = crew.undo()
    assert back is not None
    assert (back.id, back.order, back.state) == (held.id, held.order, "open")
    assert crew.sure().id == held.id
    assert ratings.check() == ()
    crew.submit(back, SECOND)
    first, undo, second = ratings.judgments_of(held.item)
    assert [entry.kind for entry in (first, undo, second)] == ["answer", "undo", "answer"]
    assert [entry.is_standing for entry in (first, undo, second)] == [False, False, True]
    assert undo.supersedes == first.id
    assert crew.sure().id == ahead.id
    assert [judgment.ranking for judgment in ratings.as_comparisons(crew.project.id)[1]] == [SECOND.ranking]
    assert ratings.num_answered(crew.project.id, crew.raters[0].id) == 1


def test_undo_reaches_back_one_answer_at_a_time(ratings: Ratings) -> None:
    crew = team(ratings, items=3)
    items = [crew.judge().item for _ in range(3)]
    assert [found.item for found in (crew.undo(), crew.undo(), crew.undo()) if found] == items[::-1]
    assert crew.undo() is None
    assert ratings.check() == ()


def test_a_skip_taken_back_has_its_place_only_if_nobody_took_it(ratings: Ratings) -> None:
    crew = team(ratings, items=1)
    crew.submit(crew.sure(0), Answer(skipped=True), 0)
    back = crew.undo(0)
    assert back is not None
    assert back.state == "open"
    assert crew.claim(1) is None
    crew.submit(back, Answer(skipped=True), 0)
    crew.judge(1)
    gone = crew.undo(0)
    assert gone is not None
    assert gone.state == "expired"
    assert crew.submit(gone, FIRST, 0).status == "surplus"
    assert ratings.check() == ()


def test_a_second_answer_taken_back_leaves_the_first(ratings: Ratings) -> None:
    crew = team(ratings, items=1)
    held = crew.judge()
    crew.submit(held, SECOND)
    assert crew.undo() is not None
    assert [entry.answer for entry in ratings.judgments_of(held.item) if entry.is_standing] == [FIRST]
    assert ratings.check() == ()


@pytest.mark.parametrize("table", [schema.judgments, schema.audit_log], ids=lambda table: table.name)
@pytest.mark.parametrize("verb", ["update", "delete"])
def test_the_database_itself_refuses_to_change_what_was_said(ratings: Ratings, table: object, verb: str) -> None:
    crew = team(ratings)
    crew.judge()
    ratings.audit(crew.raters[0].id, "made", crew.project.id, 1.0, {"n": 1})
    statement = delete(table) if verb == "delete" else update(table).values(created=0.0)  # type: ignore[arg-type]
    with pytest.raises(Exception, match="append-only"), ratings.database.write() as connection:
        connection.execute(statement)
    assert len(list(ratings.judgments(crew.project.id))) == 1


@pytest.mark.parametrize(
    "answer",
    [
        Answer(),
        Answer(ranking=((0,),)),
        Answer(ranking=((0, 1),)),
        Answer(ranking=((0,), (0,))),
        Answer(ranking=((0,), (2,))),
        Answer(ranking=((0,), (1,), ())),
        Answer(all_bad=True),
        Answer(ranking=((0,), (1,)), dimensions={"style": ((0,), (1,))}),
        Answer(ranking=((0,), (1,)), seconds=-1.0),
        Answer(ranking=((0,), (1,)), strength=float("nan")),
        Answer(ranking=((0,), (1,)), reason="x" * 2**20),
    ],
)
def test_what_does_not_fit_the_task_is_refused_and_can_be_mended(ratings: Ratings, answer: Answer) -> None:
    crew = team(ratings, task=Task(ties=False))
    held = crew.sure()
    with pytest.raises(DataError):
        crew.submit(held, answer)
    assert list(ratings.judgments(crew.project.id)) == []
    assert crew.submit(held).status == "kept"


def test_answers_of_every_kind_come_back_as_they_were_given(ratings: Ratings) -> None:
    task = Task("rank", dimensions=("helpful", "honest"), all_bad=True, strength=True)
    three = Item(
        (Message("user", "q", tool_fields='{"tools": []}'),),
        tuple(pair(name).candidates[0] for name in "abc"),
        fields={"row": [1, {"x": None}]},
    )
    crew = team(ratings, items=0, extra=(three,), raters=3, overlap=3, task=task)
    given = [
        Answer(
            ranking=((2, 0), (1,)),
            dimensions={"honest": ((0,), (1, 2))},
            strength=2.5,
            reason='"quotes" \\ \U0001f600',
            flag="odd",
            seconds=1.25,
        ),
        Answer(all_bad=True, reason="\x00 and \u2028"),
        Answer(skipped=True),
    ]
    for rater, answer in enumerate(given):
        crew.submit(crew.sure(rater), answer, rater)
    entries = list(ratings.judgments(crew.project.id))
    assert [entry.answer for entry in entries] == given
    assert sorted(entries[0].order) == [0, 1, 2]
    (item,) = ratings.items(crew.project.id)
    assert (item.conversation, item.candidates, item.fields) == (three.conversation, three.candidates, three.fields)
    comparisons, judgments = ratings.as_comparisons(crew.project.id)
    assert [completion.text for completion in comparisons[0].completions] == ["a a", "b a", "c a"]
    assert [(judgment.dimension, judgment.ranking) for judgment in judgments] == [
        ("helpful", ((2, 0), (1,))),
        ("honest", ((0,), (1, 2))),
        ("helpful", ((0, 1, 2),)),
    ]
    assert {judgment.rater for judgment in judgments} == {crew.raters[0].pseudonym, crew.raters[1].pseudonym}


@pytest.mark.parametrize(
    ("task", "count", "answer", "bad"),
    [
        (Task("rule", rules=("no knives",)), 1, Answer(broken=False, rule="no knives"), Answer(broken=True, rule="other")),
        (Task("rule", rules=("no knives",)), 1, Answer(broken=True), Answer()),
        (Task("probe", rules=("r",)), 0, Answer(broken=True, dialogue=(Message("user", "hi"), Message("assistant", "no"))), Answer()),
        (Task("write"), 0, Answer(text="an answer"), Answer(text=" ")),
        (Task("write", reason="required"), 1, Answer(text="edited", reason="why"), Answer(text="edited")),
    ],
)
def test_the_other_tasks(ratings: Ratings, task: Task, count: int, answer: Answer, bad: Answer) -> None:
    item = Item((Message("user", "q"),), pair("x").candidates[:count])
    crew = team(ratings, items=0, extra=(item,), task=task)
    held = crew.sure()
    with pytest.raises(DataError, match="does not fit"):
        crew.submit(held, bad)
    crew.submit(held, answer)
    whole = replace(answer, rule=next(iter(task.rules), ""))  # the rule is the item's
    assert [entry.answer for entry in ratings.judgments(crew.project.id)] == [whole]


def test_time_is_counted_by_day_with_what_was_taken_back(ratings: Ratings) -> None:
    crew = team(ratings)
    crew.now = 86_400.0 * 20_000 - 10.0
    crew.judge()
    crew.undo()
    crew.now += 20.0
    crew.judge()
    log = ratings.time_log(crew.raters[0].id)
    assert [(spent.day, spent.judgments, spent.seconds) for spent in log] == [("2024-10-03", 1, 3.0), ("2024-10-04", 1, 3.0)]

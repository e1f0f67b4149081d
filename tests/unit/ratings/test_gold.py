"""Items whose answer is known: what counts of the answers to them, and that an item about a rule is about that rule alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from palate.core import DataError, Message
from palate.data.exchange import read_exchange, write_exchange
from palate.ratings import Answer, Candidate, Item, Ratings, Task
from tests.support.ratings import FIRST, Team, pair, said, team

RULES = ("be kind", "be brief")


def rule_item(name: str, **changes: object) -> Item:
    return replace(Item((Message("user", f"question {name}"),), (Candidate(f"{name} a"),)), **changes)  # type: ignore[arg-type]


def rule_team(ratings: Ratings, *items: Item, **settings: object) -> Team:
    return team(ratings, items=0, extra=items, task=Task("rule", rules=RULES), **settings)


def test_one_right_answer_sent_five_times_is_one(ratings: Ratings) -> None:
    tests = tuple(pair(f"test {n}", gold=((0,), (1,)), is_qualification=True) for n in range(5))
    crew = team(ratings, items=1, extra=tests)
    held = crew.sure()
    place = held.order.index(0)
    right = Answer(ranking=((place,), (1 - place,)))
    assert crew.submit(held, right).status == "kept"
    assert [crew.submit(held, right).status for _ in range(4)] == ["surplus"] * 4
    record = ratings.gold_record(crew.project.id, crew.raters[0].id)
    assert (record.qualification_items, record.qualification_asked, record.qualification_right) == (5, 1, 1)
    other = crew.sure(1)
    place = other.order.index(0)
    crew.submit(other, Answer(ranking=((1 - place,), (place,))), 1)
    crew.submit(other, Answer(ranking=((place,), (1 - place,))), 1)
    assert ratings.gold_record(crew.project.id, crew.raters[1].id).qualification_right == 0  # the first answer counts


def test_what_was_asked_about_a_removed_test_is_forgotten(ratings: Ratings) -> None:
    tests = tuple(pair(f"test {n}", gold=((0,), (1,)), is_qualification=True) for n in range(2))
    crew = team(ratings, items=1, extra=tests)
    said(crew, 0, 0)
    failed = crew.sure()
    place = failed.order.index(1)
    crew.submit(failed, Answer(ranking=((place,), (1 - place,))))
    ratings.remove_item(failed.item, crew.now)
    record = ratings.gold_record(crew.project.id, crew.raters[0].id)
    assert (record.qualification_items, record.qualification_asked, record.qualification_right) == (1, 1, 1)


def test_gold_about_a_rule_is_yes_or_no(ratings: Ratings, tmp_path: Path) -> None:
    crew = rule_team(ratings, *(rule_item(f"gold {n}", gold=n == 0, is_qualification=True) for n in range(2)))
    by_id = {item.id: item.gold for item in ratings.items(crew.project.id)}
    assert sorted(map(str, by_id.values())) == ["False", "True"]
    for rater in range(2):
        for _ in range(2):
            held = crew.sure(rater)
            crew.submit(held, Answer(broken=by_id[held.item] is (rater == 0)), rater)
    records = [ratings.gold_record(crew.project.id, one.id) for one in crew.raters]
    assert [(one.qualification_asked, one.qualification_right) for one in records] == [(2, 2), (2, 0)]
    whole = ratings.as_exchange(crew.project.id)
    file = tmp_path / "rules.jsonl"
    write_exchange(whole, file)
    assert read_exchange(file) == whole
    assert {item.id: item.gold for item in read_exchange(file).items} == by_id
    done = ratings.import_exchange(read_exchange(file), "again", crew.now)
    again = ratings.as_exchange(done.project.id)
    assert [item.gold for item in again.items] == [item.gold for item in whole.items]
    assert [(vote.rule, vote.is_broken) for vote in again.votes] == [(vote.rule, vote.is_broken) for vote in whole.votes]
    ratings.asked_items(crew.project.id)


@pytest.mark.parametrize(
    ("task", "item", "fault"),
    [
        (Task("rule", rules=RULES), rule_item("x", gold=((0,),)), "Item 1, gold: must be true or false"),
        (Task("write"), rule_item("x", gold=True), "Item 1, gold: must be left out"),
        (Task("probe", rules=RULES), rule_item("x", gold=True), "Item 1, gold: must be left out"),
        (Task(), pair("x", gold=True), "Item 1, gold: must name each candidate once"),
        (
            Task("rule", rules=RULES),
            rule_item("x", fields={"rule": "be loud"}),
            "Item 1, fields: the rule 'be loud' is none of the project's",
        ),
    ],
)
def test_gold_and_rules_that_raters_cannot_be_asked_about(ratings: Ratings, task: Task, item: Item, fault: str) -> None:
    crew = team(ratings, items=0, task=task)
    with pytest.raises(DataError, match=fault):
        ratings.add_items(crew.project.id, [item], 3.0)


@pytest.mark.parametrize(("task", "gold"), [("rule", "[0]"), ("write", "true"), ("compare", "true")])
def test_a_file_with_another_kind_of_gold_is_refused(tmp_path: Path, task: str, gold: str) -> None:
    told = ', "completions": ["a", "b"]' if task == "compare" else ', "completions": ["a"]'
    file = tmp_path / "items.jsonl"
    file.write_text(f'{{"prompt": "soup?"{told}, "task": "{task}", "gold": {gold}}}\n')
    with pytest.raises(DataError, match=r"items.jsonl:1: `gold`"):
        read_exchange(file)
    file.write_text('{"prompt": "soup?", "completions": ["a"], "gold": false}\n')
    assert read_exchange(file).items[0].gold is False


def test_one_answer_under_two_rules_is_two_questions(ratings: Ratings) -> None:
    crew = rule_team(ratings)
    items = [rule_item("x", fields={"rule": rule}) for rule in RULES]
    assert len(ratings.add_items(crew.project.id, items, 3.0).ids) == 2
    again = ratings.add_items(crew.project.id, items, 4.0)
    assert (again.ids, again.duplicates) == ((), 2)
    whole = ratings.as_exchange(crew.project.id)
    assert ratings.import_exchange(whole, crew.project.name, 5.0).known_items == 2


def test_an_answer_is_about_the_rule_of_its_item(ratings: Ratings) -> None:
    crew = rule_team(ratings, rule_item("x", fields={"rule": RULES[1]}), overlap=2)
    with pytest.raises(DataError, match="the rule 'be kind', and the item asks about 'be brief'"):
        crew.submit(crew.sure(), Answer(broken=True, rule=RULES[0]))
    crew.submit(crew.sure(), Answer(broken=True))
    crew.submit(crew.sure(1), Answer(broken=True, rule=RULES[1]), 1)
    rows = list(ratings.judgments(crew.project.id))
    assert [row.answer.rule for row in rows] == [RULES[1]] * 2
    assert ratings.progress(crew.project.id, crew.now).undecided == 0
    whole = ratings.as_exchange(crew.project.id)
    strange = replace(whole, votes=tuple(replace(vote, rule=RULES[0]) for vote in whole.votes))
    with pytest.raises(DataError, match="`rule` is 'be kind', but the item asks about 'be brief'"):
        ratings.import_exchange(strange, "elsewhere", 9.0)


def test_a_rule_drawn_by_the_items_id_stays_when_the_id_does_not(ratings: Ratings) -> None:
    crew = rule_team(ratings, *(rule_item(str(n)) for n in range(12)))
    for _ in range(12):
        crew.submit(crew.sure(), Answer(broken=True))
    whole = ratings.as_exchange(crew.project.id)
    ratings.import_exchange(whole, "copy", 9.0)
    (copy,) = (one for one in ratings.projects() if one.name == "copy")
    assert {vote.rule for vote in whole.votes} == set(RULES)
    assert [vote.rule for vote in ratings.as_exchange(copy.id).votes] == [vote.rule for vote in whole.votes]


def test_tests_and_decisions_are_no_labels_and_the_last_decision_is(ratings: Ratings) -> None:
    hidden = pair("hidden", gold=((0,), (1,)))
    crew = team(
        ratings, items=1, raters=3, overlap=2, extra=(hidden,), gold_share=0.5, task=Task(dimensions=("overall", "kind"), strength=True)
    )
    (item,) = (one.id for one in ratings.items(crew.project.id) if one.gold is None)
    both = {"kind": ((0, 1),)}
    for rater, candidate in ((1, 0), (2, 1)):
        held = crew.sure(rater)
        while held.item != item:
            crew.submit(held, replace(FIRST, dimensions=both), rater)
            held = crew.sure(rater)
        place = held.order.index(candidate)
        crew.submit(held, Answer(ranking=((place,), (1 - place,)), dimensions=both, strength=3.0), rater)
    compared, before = ratings.as_comparisons(crew.project.id)
    assert [one.id for one in compared] == [item]
    assert sorted((one.dimension, one.strength) for one in before if one.strength) == [("overall", 3.0)] * 2
    for key, best in (("a", 1), ("b", 0)):
        answer = Answer(ranking=((best,), (1 - best,)), dimensions=both)
        ratings.adjudicate(item, crew.raters[0].id, answer, key, crew.now)
    labels = ratings.as_comparisons(crew.project.id)[1]
    assert [(one.dimension, one.ranking) for one in labels] == [("overall", ((0,), (1,))), ("kind", ((0, 1),))]
    whole = ratings.as_comparisons(crew.project.id, overruled=True)[1]
    assert [one.is_decision for one in whole] == [False] * 4 + [True] * 2
    exported = ratings.as_exchange(crew.project.id)
    assert len(list(exported.answers())) == sum(vote.entry == "answer" for vote in exported.votes) < len(exported.votes)
